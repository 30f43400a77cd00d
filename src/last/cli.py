"""The command line: parses, calls, prints. Exit codes: 0 done, 1 failed, 2 bad usage."""

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.table import Table

from last import __version__
from last.config import Config, ConfigError, load_config
from last.progress import Interrupted, Reporter
from last.run import Run, Weights

if TYPE_CHECKING:
    from last.workflow import Evaluation

app = App(name="last", help="Skeleton-based human action recognition that fits anywhere.", version=__version__)
data = App(name="data", help="Get, prepare and look at clips.")
app.command(data)

out = Console(soft_wrap=True, highlight=False)
reporter = Reporter()
_command = "last"  # as it was typed, for the record of a run


def _help(text: str) -> Any:
    return Parameter(help=text)


@Parameter(name="*")
@dataclass(frozen=True)
class Settings:
    """Which network, data, recipe and machine."""

    model: Annotated[str | None, _help("Network, by name or alias; see 'last models'.")] = None
    dataset: Annotated[str | None, _help("Data set; see 'last data list'.")] = None
    protocol: Annotated[str | None, _help("How the data set is split into train and test.")] = None
    data: Annotated[str | None, _help("Folder of the prepared clips.")] = None
    recipe: Annotated[str | None, _help("Recipe of the training; where not given, the data set's own.")] = None
    env: Annotated[str | None, _help("Machine: local, kaggle or gcp; detected where not given.")] = None
    epochs: Annotated[int | None, _help("Passes over the training clips.")] = None
    batch_size: Annotated[int | None, _help("Clips a step.")] = None
    lr: Annotated[float | None, _help("Learning rate at its peak.")] = None
    amp: Annotated[bool | None, _help("Mixed precision on a GPU.")] = None
    seed: Annotated[int | None, _help("Of everything random.")] = None
    set: Annotated[
        list[str] | None,
        Parameter(help="Any other setting, as section.key=value; 'last config' lists them.", negative=()),
    ] = None

    def overrides(self) -> dict[str, Any]:
        """The single settings that were given, by section.key.

        Raises:
            ConfigError: ``--set`` without a value.
        """
        flags = {
            "data.protocol": self.protocol,
            "data.path": self.data,
            "training.epochs": self.epochs,
            "training.batch_size": self.batch_size,
            "training.lr": self.lr,
            "training.amp": self.amp,
            "training.seed": self.seed,
        }
        given = {key: value for key, value in flags.items() if value is not None}
        for item in self.set or []:
            key, equals, value = item.partition("=")
            if not equals:
                raise ConfigError(f"--set {item} has no '=', expected section.key=value, such as training.ema=0.99")
            if key != "training":
                given[key.replace("-", "_")] = value
        return given

    def names(self) -> dict[str, str]:
        """The configurations that were chosen, by the key that holds their name; ``--set training=NAME`` is one.

        Raises:
            ConfigError: there is no such model.
        """
        from last.models import canonical_name

        recipes = [item.partition("=")[2] for item in self.set or [] if item.startswith("training=")]
        chosen = {
            "model.name": self.model,
            "data.name": self.dataset,
            "training.recipe": (recipes or [self.recipe])[-1],
        }
        named = {key: name.replace("-", "_") if not _is_file(name) else name for key, name in chosen.items() if name}
        if "model.name" in named and not _is_file(named["model.name"]):
            try:
                named["model.name"] = canonical_name(named["model.name"])
            except ValueError as error:
                raise ConfigError(str(error)) from error
        return named

    def config(self) -> Config:
        """The merged configuration.

        Raises:
            ConfigError: a name, key or value is wrong.
        """
        names = self.names()
        return load_config(
            names.get("model.name", "last_e_nano"),
            names.get("data.name", "synthetic"),
            names.get("training.recipe"),
            self.env,
            self.overrides(),
        )


def _is_file(name: str) -> bool:
    return name.endswith((".yaml", ".yml"))


Positive = Annotated[int, Parameter(validator=Number(gte=1))]
Device = Annotated[str, _help("auto, cpu, cuda or cuda:N.")]


@app.command
def train(
    *,
    settings: Settings = Settings(),
    device: Device = "auto",
    run: str | None = None,
    resume: Path | None = None,
    results: Path | None = None,
) -> None:
    """Train a network, evaluate it on the protocol's test part, write a report.

    Args:
        run: name of the run's folder under the environment's runs_root, or a path.
        resume: folder of an interrupted run, which goes on exactly where it stopped.
        results: folder that also gets a copy of the run's result.json, under a name of its own.
    """
    from last import workflow
    from last.recognizer import choose_device

    chosen = choose_device(device)
    if resume is not None:
        if run is not None or settings.env is not None:
            raise ConfigError("--resume goes on in the run's own folder with its own paths; leave out --run and --env")
        begun = workflow.resume(resume, settings.names() | settings.overrides(), chosen, _command)
    else:
        begun = workflow.begin(settings.config(), run, chosen, _command)
    _print_evaluation(begun, workflow.train(begun, resume is not None, chosen, reporter), results)


@app.command
def evaluate(
    run: Path,
    /,
    *,
    device: Device = "auto",
    data: str | None = None,
    weights: Weights = "last",
    crops: Annotated[int | None, Parameter(validator=Number(gte=1, lte=100))] = None,
    results: Path | None = None,
) -> None:
    """Score a run's network on the test part of its protocol.

    Args:
        run: folder of the run.
        data: folder of the prepared clips, where it is not the one of the training.
        weights: of the last epoch, or the best on the validation part.
        crops: test-time crops; the run's own setting where not given.
        results: folder that also gets a copy of the run's result.json, under a name of its own.
    """
    from last import workflow
    from last.recognizer import choose_device

    opened = Run.open(run).with_settings({} if data is None else {"data.path": data})
    _print_evaluation(opened, workflow.evaluate(opened, choose_device(device), reporter, weights, crops), results)


@app.command
def predict(
    run: Path,
    files: Annotated[list[Path], Parameter(consume_multiple=True)],
    *,
    top: Positive = 5,
    device: Device = "auto",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Name the action in each clip; exit code 1 where a file could not be read.

    Args:
        run: folder of a run, or a .safetensors file from one.
        files: clips, in any format that LAST reads.
        top: how many classes to print for each.
        json: print JSON.
    """
    from last.data.formats import read_clip
    from last.recognizer import Recognizer

    recognizer = Recognizer(run, device)
    answers, broken = [], 0
    for file in files:
        try:
            clip = read_clip(file)
            _, cleaned = recognizer.clean(clip)
            best = recognizer.rank(recognizer.predict_clips([clip]), top)[0]
        except (OSError, ValueError) as error:  # the other files still get their answers
            reporter.say(f"last: {error}")
            broken += 1
            continue
        answers.append(
            {
                "file": str(file),
                "frames": clip.frames,
                "bodies": clip.bodies,
                "cleaned": dict(cleaned),
                "classes": [{"class": name, "probability": round(probability, 6)} for name, probability in best],
            }
        )
        if not json:
            repairs = "".join(f"; {what}: {count}" for what, count in cleaned.items())
            _say(f"{file} ({clip.frames} frames, {_bodies(clip.bodies)}{repairs})")
            for name, probability in best:
                _say(f"  {100 * probability:5.1f} %  {name}")
    if json:
        _print_json(answers)
    return int(broken > 0)


@app.command
def models(
    *,
    classes: Positive = 60,
    layout: str = "ntu",
    frames: Positive = 64,
    bodies: Positive = 1,
    json: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """List the networks: name, parameters, MACs of one clip.

    Args:
        classes: size of the output.
        layout: the skeleton.
        frames: of the clip.
        bodies: in the clip.
        json: print JSON.
    """
    from last.models import ALIASES, list_models
    from last.models.cost import count_macs, count_parameters, on_paper

    alias = {name: short for short, name in ALIASES.items()}
    rows = [
        (
            name,
            alias.get(name, ""),
            count_parameters(on_paper(name, classes, layout)),
            count_macs(name, classes, layout, frames, bodies),
        )
        for name in list_models()
    ]
    if json:
        _print_json([dict(zip(("model", "alias", "parameters", "macs"), row, strict=True)) for row in rows])
        return
    _say(f"{classes} classes, layout {layout}, {frames} frames, {_bodies(bodies)}")
    table = _table("model", "alias", "parameters", "MACs")
    for name, short, parameters, macs in rows:
        table.add_row(name, short, f"{parameters:,}", f"{macs / 1e6:,.1f} M")
    out.print(table)


@app.command
def config(*, settings: Settings = Settings()) -> None:
    """Print what a command would run with, and where each value came from."""
    merged = settings.config()
    for section, keys in merged.to_dict().items():
        for key, value in keys.items():
            name = f"{section}.{key}"
            _say(f"{name:<26} {'none' if value is None else str(value):<32} {merged.origins[name]}")


@data.command(name="list")
def list_data(*, env: str | None = None) -> None:
    """List the data sets, their protocols, and whether they are prepared here.

    Args:
        env: machine: local, kaggle or gcp; detected where not given.
    """
    from last.data.datasets import list_datasets
    from last.data.store import ClipStore, StoreError

    for dataset in list_datasets():
        path = load_config(dataset=dataset.name, environment=env).store_path()
        try:
            state = f"{len(ClipStore.open(path)):,} clips in {path}"
        except StoreError as error:
            state = str(error) if path.exists() else f"not prepared, {path} does not exist"
        _say(f"{dataset.name}: {dataset.title}")
        _say(f"  {len(dataset.classes)} classes; protocols {', '.join(dataset.protocols)}; {state}")


@data.command
def prepare(
    dataset: str,
    *,
    raw: Annotated[list[Path] | None, Parameter(consume_multiple=True)] = None,
    protocol: Annotated[str | None, Parameter(name=["--protocol", "--split-type"])] = None,
    data: str | None = None,
    env: str | None = None,
    workers: int | None = None,
) -> None:
    """Turn raw files into a store; can be interrupted and goes on where it stopped.

    Args:
        dataset: which; see 'last data list'.
        raw: folders or zip archives of raw files; <data_root>/raw/<dataset> where not given.
        protocol: checked only: one store serves every protocol.
        data: where the store goes; <data_root>/<dataset> where not given.
        env: machine: local, kaggle or gcp.
        workers: processes; one for each core at hand where not given.
    """
    from last.data.datasets import prepare_dataset

    given = {"data.protocol": protocol, "data.path": data, "environment.workers": workers}
    name = dataset if _is_file(dataset) else dataset.replace("-", "_")
    merged = load_config(dataset=name, environment=env, overrides={k: v for k, v in given.items() if v is not None})
    with reporter.bar(f"preparing {name}") as advance:
        report = prepare_dataset(raw, merged, advance)
    if report.resumed:
        _say(f"{report.resumed:,} files had been read by an earlier run")
    _say(f"{report.kept:,} of {report.files:,} files are now clips in {merged.store_path()}{_instead(report.replaced)}")
    for reason, count in report.reasons().most_common():
        example = next(record["file"] for record in report.left_out if record["reason"] == reason)
        _say(f"  left out: {reason}: {count:,}, such as {example}")
    for what, count in sorted(report.cleaned.items()):
        _say(f"  {what}: {count:,}")
    _say(f"each file left out, with its reason: {merged.store_path() / 'report.json'}")


@data.command
def synthesize(*, out: Path | None = None, ntu: Path | None = None, env: str | None = None) -> None:
    """Make the embedded set: a seeded animated body, the same clips for everyone.

    Args:
        out: where the store goes; <data_root>/synthetic where not given.
        ntu: write NTU .skeleton files into this folder instead.
        env: machine: local, kaggle or gcp.
    """
    from last.data import synthetic

    replaced = 0
    with reporter.bar("synthesizing") as advance:
        if ntu is not None:
            synthetic.write_ntu(ntu, progress=advance)
        else:
            out = out or load_config(environment=env).store_path()
            replaced = synthetic.synthesize(out, progress=advance).replaced
    _say(f"{len(synthetic.clip_names()):,} clips in {ntu or out}{_instead(replaced)}")


@data.command
def check(path: Path, /) -> int:
    """Look for every fault in a store, a raw file, or a folder or zip of raw files; exit code 1 where there are errors.

    Args:
        path: what to look at.
    """
    from last.data.check import check as find_faults

    with reporter.bar("checking") as advance:
        findings = find_faults(path, advance)
    for finding in findings:
        _say(str(finding))
    if not findings:
        _say(f"{path}: nothing to complain about")
    return int(any(finding.severity == "error" for finding in findings))


@data.command
def show(path: Path, /, *, clip: str | None = None, out: Path | None = None, frames: Positive = 8) -> None:
    """Draw a clip as a picture (.png), an animation (.gif), or a player that can be turned by hand (.html).

    Args:
        path: a raw file, or a store.
        clip: name or number of the clip in the store; the first where not given.
        out: the picture, <clip name>.png in this folder where not given.
        frames: poses in a .png.
    """
    from last.data.show import load_clip
    from last.report.pictures import draw_clip

    chosen, layout = load_clip(path, clip)
    target = out or Path(f"{chosen.name}.png")
    draw_clip(chosen, target, frames, layout)
    _say(f"{target}: {chosen.frames} frames, {_bodies(chosen.bodies)}")


def _print_evaluation(run: Run, evaluation: "Evaluation", results: Path | None) -> None:
    result = evaluation.result
    table = _table("model", "parameters", "test part", "clips", "top-1", "top-5", "mean class")
    table.add_row(
        result["model"],
        f"{result['parameters']:,}",
        f"{result['dataset']}/{result['protocol']}",
        str(result["test_clips"]),
        *(f"{result[key]:.2f}" for key in ("top1", "top5", "mean_class_accuracy")),
    )
    out.print(table)
    if copies := result["test_clips_copied_from_training"]:
        rest = result["top1_without_copies"]
        without = "there are no others" if rest is None else f"without them top-1 is {rest:.2f}"
        _say(f"{copies} of the test clips have exactly the joints of a training clip; {without}")
    _say(f"trained in {result['seconds']:.0f} s; report: {evaluation.report}")
    if results is not None:
        _say(f"result: {run.copy_result(evaluation.result_file, results)}")


def _instead(replaced: int) -> str:
    return f", instead of {replaced:,} that were there" if replaced else ""


def _bodies(count: int) -> str:
    return "1 body" if count == 1 else f"{count} bodies"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        numeric = column in {
            "parameters",
            "MACs",
            "clips",
            "top-1",
            "top-5",
            "mean class",
            "seconds",
            "classes",
        }
        table.add_column(column, justify="right" if numeric else "left", overflow="fold")
    return table


def _print_json(content: Any) -> None:
    sys.stdout.write(json.dumps(content, indent=1) + "\n")


def _say(line: str) -> None:
    Console(soft_wrap=True, highlight=False).print(line, markup=False)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    global _command
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    _command = shlex.join(["last", *tokens])
    try:
        result = app(tokens, exit_on_error=False, result_action="return_value")
        return result if isinstance(result, int) else 0
    except (CycloptsError, ConfigError) as error:
        if isinstance(error, ConfigError):
            reporter.say(f"last: {error}")
        return 2
    except Interrupted as stopped:
        reporter.say(f"last: {stopped}")
        return 1
    except KeyboardInterrupt:
        reporter.say("last: stopped")
        return 1
    except (OSError, ValueError, RuntimeError) as error:
        reporter.say(f"last: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
