"""Put trained networks into the package, each with a card: `python scripts/pretrained.py RUN...`.

Without a run, cards and index are made again, as when results/ holds further seeds; `--check` only says which of them
results/ and the weights no longer give.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from last.bench.entries import Entry, Record, entries, read_records, spread
from last.config import from_dict, load_config
from last.data.datasets import load_dataset
from last.data.protocols import PROTOCOLS
from last.files import write_atomically, write_text
from last.models import family_of
from last.models.cost import count_parameters
from last.pretrained import FOLDER, INDEX, Pretrained, list_pretrained
from last.recognizer import Recognizer
from last.run import Run, RunError, read_record, result_name, scored_on
from last.scored_run import ScoredRun
from last.training.checkpoint import read_weights

RESULTS = Path(__file__).resolve().parents[1] / "results"
SEED = 0  # by rule, so that none is chosen by its score

SCORES = {
    "top1": "top-1",
    "top1_without_copies": "top-1 without these copies",
    "top5": "top-5",
    "mean_class_accuracy": "mean class accuracy",
    "ece": "expected calibration error",
}
NORMALISED = {
    "minmax": "each axis of each clip is mapped to [-1, 1]",
    "torso": "sizes are in lengths of the torso",
    "front": "the first body is turned to the front",
}
CARD = """# {name}

{family} ({model}), trained to tell {count} actions apart. `python scripts/pretrained.py` made this page from
`results/{record}` and the weights.

```python
import last

recognizer = last.Recognizer("{name}")
recognizer.predict(joints)  # {shape} -> [("{example}", 0.93), ...]
```

## What it takes and gives

| | |
|---|---|
| meant for | one action in a clip that was recorded as those of {title} |
| classes | {classes} |
| joints, in this order | {joints} |
| layout and units | `{layout}`: {axes}; {normalised} |
| bodies | {bodies} |
| frames | {frames} |

## Training

| | |
|---|---|
| data set | `{dataset}`. {obtain} |
| protocol | `{protocol}`: {rule} |
| recipe | {recipe} |
| training seeds | {seeds} |
| these weights | seed {seed}{fold}, last epoch: the first by rule, whatever it scored |
| command | `{command}` |
| commit, date | {commit}, {date} |
| hardware | {hardware}, PyTorch {torch} |
| file | {parameters:,} parameters in float32, {size:,} bytes |
| SHA-256 | `{sha256}` |

## Scores

Last epoch, {scored_on}, one network; percent, the calibration error in points.
{tested}

| | these weights | {of_all} |
|---|---|---|
{scores}

## What it is not good for

- Other actions: it names one of its {count} for any clip, also for one that shows none of them.
- Other skeletons: joints in another order, of another sensor or of a pose estimator.
- Long recordings: it names one action for all that it is given.
- Its probabilities as they are: on average they miss the share of right answers by the calibration error above.
- Decisions about people: it was tested on the few persons and rooms of one data set.

## Licence

The code is under the MIT licence. The weights come from research data whose owners grant research use: use them for
research. The data's own terms hold for the data, which is no part of LAST.
"""


def publishable(path: Path, known: Sequence[Entry]) -> Pretrained:
    """What the index would say of a run.

    Raises:
        RunError: it is not finished, has no record in results/, or is not the one that stands for its settings.
        CheckpointError, ValueError: its files are missing, damaged, or contradict each other.
    """
    run, result = Run.open(path), ScoredRun.open(path).result
    config, weights, history = run.config, run.weights(), run.history()
    record = RESULTS / f"{result_name(config)}.seed{config.training.seed}.json"
    protocol = load_config(config.model.name, config.data.name).data.protocol
    described, tensors = Recognizer(weights, "cpu", "plain").config, read_weights(weights)[0].values()
    reasons = {
        "its weights are not of a training of ours": result["kind"] != "accuracy",
        f"its seed is {result['seed']}, expected {SEED}": result["seed"] != SEED,
        f"its protocol is {result['protocol']}, expected {protocol}, the data set's own": result["protocol"]
        != protocol,
        "its result is not that of the last epoch": result["weights"] != "last",
        f"it has {len(history)} of its {config.training.epochs} epochs": len(history) != config.training.epochs,
        f"its result is not the one in {record}; put it there with 'last evaluate {path} --results {RESULTS}'": not (
            record.is_file() and read_record(record) == result
        ),
        "its weights are of other settings than it says": (described.model, described.data)
        != (config.model, replace(config.data, path=None)),
        "its weights are not in float32": any(x.is_floating_point() and x.dtype != torch.float32 for x in tensors),
    }
    if wrong := [reason for reason, holds in reasons.items() if holds]:
        raise RunError(f"{path} cannot be published: {'; '.join(wrong)}")
    return indexed(record.name, weights, known)


def indexed(record: str, weights: Path, known: Sequence[Entry]) -> Pretrained:
    """What the index says of weights.

    Args:
        record: name of the result of their run.
        weights: the file.
        known: all accuracies in results/.

    Raises:
        RunError: there is no such result, it is of another network, or a fold is missing beside it.
        CheckpointError: the weights are missing or damaged.
    """
    result, entry = _result(record, known)
    parameters = count_parameters(Recognizer(weights, "cpu", "plain").model)
    if parameters != result["parameters"]:
        raise RunError(f"{weights} holds {parameters:,} parameters, and {record} tells of {result['parameters']:,}")
    if result["seed"] not in entry.complete:
        raise RunError(f"seed {result['seed']} of {record} was not tested by all of {', '.join(entry.parts)}")
    return Pretrained(
        model=result["model"],
        dataset=result["dataset"],
        protocol=result["protocol"],
        parameters=parameters,
        top1=result["top1"],
        top1_by_seed={str(seed): round(entry.score(seed), 4) for seed in entry.complete},
        tested_by=entry.parts,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        record=record,
    )


def card(of: Pretrained, known: Sequence[Entry]) -> str:
    """What a person should know before using it.

    Raises:
        RunError: its result is missing.
        CheckpointError: its weights are missing or damaged.
    """
    result, entry = _result(of.record, known)
    recognizer, dataset = Recognizer(of.weights, "cpu", "plain"), load_dataset(of.dataset)
    data, layout, classes = recognizer.config.data, recognizer.layout, recognizer.classes
    shape = ("frames", *(["bodies"] if data.max_bodies > 1 else []), len(layout.joints), layout.dimensions)
    unit = "pixels" if layout.dimensions == 2 else "metres"
    seeds = ", ".join(map(str, entry.complete))
    folds = f"mean of {len(entry.parts)} folds, " if len(entry.parts) > 1 else ""
    copies = result["test_clips_copied_from_training"]
    shown = {key: name for key, name in SCORES.items() if copies or key != "top1_without_copies"}
    rows = {
        name: (f"{result[key]:.1f}", spread([entry.score(seed, key) for seed in entry.complete]))
        for key, name in shown.items()
    }
    copied = f", {copies} of which have exactly the joints of a training clip" if copies else ""
    facts = {
        "name": of.name,
        "family": family_of(of.model),
        "count": len(classes),
        "example": classes[0],
        "shape": f"({', '.join(map(str, shape))})",
        "title": dataset.title,
        "obtain": dataset.obtain,
        "classes": ", ".join(classes),
        "joints": ", ".join(layout.joints),
        "layout": layout.name,
        "axes": f"{'xyz'[: layout.dimensions]} in {unit}, y {'down' if layout.y_down else 'up'}",
        "normalised": "; ".join(NORMALISED[step] for step in data.normalise),
        "bodies": f"the {data.max_bodies} that move most" if data.max_bodies > 1 else "the one that moves most",
        "frames": f"any number, {'brought' if data.sampling == 'resample' else 'cut or padded'} to {data.frames}",
        "rule": PROTOCOLS[f"{of.dataset}/{of.protocol}"].rule,
        "recipe": _recipe(result),
        "seeds": seeds,
        "fold": f" of {of.protocol}" if folds else "",
        "size": of.weights.stat().st_size,
        "scored_on": scored_on(result),
        "tested": f"{result['test_clips']} test clips{copied}.",
        "of_all": f"{folds}seed {seeds}" if len(entry.complete) == 1 else f"{folds}seeds {seeds}: mean ± sd",
        "scores": "\n".join(f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()),
    }
    return CARD.format(**{**result, **asdict(of), **facts})


def _recipe(result: Record) -> str:
    training = from_dict(result["config"], "a result").training
    parts = [
        f"`{training.recipe}`: {training.epochs} epochs, {training.batch_size * training.accumulate} clips a step",
        f"{training.optimizer.upper()}, learning rate {training.lr:g} at its peak",
        f"moving average {training.ema:g}" if training.ema else "no moving average",
        *(["branched convolutions, folded after training"] if training.structure == "branched" else []),
        *([f"begun with {result['start']['model']} of {result['start']['dataset']}"] if "start" in result else []),
        *(f"taught by {teacher['model']} beside the labels" for teacher in result.get("teachers", [])),
    ]
    return "; ".join(parts)


def _result(record: str, known: Sequence[Entry]) -> tuple[Record, Entry]:
    result = read_record(RESULTS / record)
    return result, next(entry for entry in known if result in entry.records)


def main(arguments: Sequence[str]) -> int:
    """Publish runs and write index and cards; with `--check`, only say which files are out of date."""
    check, runs = "--check" in arguments, [Path(argument) for argument in arguments if argument != "--check"]
    try:
        known = entries(read_records(RESULTS))
        new = [(publishable(run, known), Run.open(run).weights()) for run in runs]
        if not check:
            for chosen, weights in new:
                write_atomically(chosen.weights, lambda partial, weights=weights: shutil.copyfile(weights, partial))
        records = {old.name: (old.record, old.weights) for old in list_pretrained()}
        records |= {chosen.name: (chosen.record, chosen.weights) for chosen, _ in new}
        index = [indexed(*records[name], known) for name in sorted(records)]
        pages = {of.card: card(of, known) for of in index}
        pages[INDEX] = json.dumps([asdict(of) for of in index], indent=1) + "\n"
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    stale = [page for page, text in pages.items() if not page.is_file() or page.read_text(encoding="utf-8") != text]
    strays = {path for pattern in ("*.md", "*.safetensors") for path in FOLDER.glob(pattern)}
    strays -= {path for of in index for path in (of.card, of.weights)}
    if not check:
        for page in stale:
            write_text(page, pages[page])
    if strays or (check and stale):
        names = ", ".join(sorted(path.name for path in {*strays, *stale}))
        print(
            f"{names} in {FOLDER}: not as results/ and the weights give them; run python scripts/pretrained.py, and "
            "remove what the index does not name",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
