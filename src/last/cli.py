"""The command line: parses, calls, prints. Exit codes: 0 done, 1 failed, 2 bad usage."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter
from cyclopts.validators import Number

from last import __version__
from last.cli_bench import bench
from last.cli_compare import compare, doubt, fuse
from last.cli_data import Positive, assignments, data, network_name, plain_name, reporter
from last.cli_look import bodies_in_words, plain_table, print_json
from last.cli_models import models
from last.cli_search import search
from last.config import load_config, own_name, with_overrides
from last.progress import Interrupted
from last.run import Run, Weights
from last.setting_values import ConfigError
from last.settings import Config

if TYPE_CHECKING:
    from last.run_evaluation import Evaluation

app = App(
    name="last",
    help="Skeleton-based human action recognition that fits anywhere.",
    version=__version__,
    help_format="plaintext",  # markup would swallow what stands in angle brackets
    suppress_keyboard_interrupt=False,  # main() answers it with an exit code of ours
)
app.command(data)
app.command(models)
app.command(bench)
app.command(search)
app.command(fuse)
app.command(compare)
app.command(doubt)

_command = "last"  # as it was typed, for the record of a run


def _help(text: str) -> Any:
    return Parameter(help=text)


@Parameter(name="*")
@dataclass(frozen=True)
class Settings:
    """Which network, data, recipe and machine."""

    model: Annotated[str | None, _help("Network, by name or alias; see 'last models'.")] = None
    dataset: Annotated[str | None, _help("Data set; see 'last data list', or the path of your own YAML.")] = None
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
        return given | {key: value for key, value in assignments(self.set or []).items() if key != "training"}

    def names(self) -> dict[str, str]:
        """The configurations that were chosen, by the key that holds their name; ``--set training=NAME`` is one.

        Raises:
            ConfigError: there is no such model.
        """
        recipes = [item.partition("=")[2] for item in self.set or [] if item.startswith("training=")]
        chosen = {
            "model.name": self.model,
            "data.name": self.dataset,
            "training.recipe": (recipes or [self.recipe])[-1],
            "environment.name": self.env,
        }
        named = {key: plain_name(name) for key, name in chosen.items() if name}
        if "model.name" in named:
            named["model.name"] = network_name(named["model.name"])
        return named

    def of_a_run(self, config: Config) -> dict[str, Any]:
        """All that was given, by section.key, as a run that was made so has it.

        Args:
            config: of the run. Where it rests on trained networks, its recipe's name may say so behind the one given.

        Raises:
            ConfigError: there is no such model or file, or ``--set`` without a value.
        """
        given = {key: own_name(key, name) for key, name in self.names().items()}
        ways = {"tuned": config.training.start, "distilled": config.training.teachers}
        longer = [f"{given.get('training.recipe')}_{way}" for way, networks in ways.items() if networks]
        if config.training.recipe in longer:
            given["training.recipe"] = config.training.recipe
        return given | self.overrides()

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
            names.get("environment.name"),
            self.overrides(),
        )


Device = Annotated[str, _help("auto, cpu, cuda or cuda:N.")]


@app.command
def train(
    *,
    settings: Settings = Settings(),
    device: Device = "auto",
    run: str | None = None,
    start: str | None = None,
    resume: Path | None = None,
    results: Path | None = None,
) -> None:
    """Train a network, evaluate it on the protocol's test part, write a report.

    Args:
        run: name of the run's folder under the environment's runs_root, or a path.
        start: folder of a run, a .safetensors file, or name of a pretrained network, whose weights it begins with;
            other joints and classes are fine.
        resume: folder of an interrupted run, which goes on exactly where it stopped.
        results: folder that also gets a copy of the run's result.json, under a name of its own.
    """
    from last import workflow
    from last.recognizer import choose_device

    chosen = choose_device(device)
    if resume is not None:
        if run is not None or start is not None:
            raise ConfigError("--resume goes on in the run's own folder; leave out --run and --start")
        begun = workflow.resume(resume, settings.of_a_run(Run.open(resume).config), chosen, _command)
    else:
        config = settings.config()
        if start is not None:
            config = with_overrides(config, _named(config, "tuned", settings) | {"training.start": start})
        begun = workflow.begin(config, run, chosen, _command)
    _print_evaluation(begun, workflow.train(begun, resume is not None, chosen, reporter), results)


@app.command
def distill(
    *,
    student: str,
    teacher: Annotated[list[str], Parameter(consume_multiple=True, negative=())],
    settings: Settings = Settings(),
    device: Device = "auto",
    run: str | None = None,
    results: Path | None = None,
) -> None:
    """Train a network on its labels and on the scores of trained ones; 'last train --resume' goes on with it.

    Args:
        student: the network, by name or alias.
        teacher: folders of one or more runs, .safetensors files from them, or names of pretrained networks.
        run: name of the run's folder under the environment's runs_root, or a path.
        results: folder that also gets a copy of the run's result.json, under a name of its own.
    """
    from last import workflow
    from last.recognizer import choose_device

    if settings.model is not None:
        raise ConfigError("--student names the network that is trained; leave out --model")
    chosen, config = choose_device(device), replace(settings, model=student).config()
    config = with_overrides(config, _named(config, "distilled", settings) | {"training.teachers": teacher})
    begun = workflow.begin(config, run, chosen, _command)
    _print_evaluation(begun, workflow.train(begun, False, chosen, reporter), results)


@app.command(name="import")
def import_published(weights: Path, /, *, settings: Settings = Settings(), run: str | None = None) -> None:
    """Make a run of the weights that the authors of EfficientGCN or CTR-GCN published, to evaluate and compare.

    Args:
        weights: the authors' file, .pt or .pth.tar.
        run: name of the run's folder under the environment's runs_root, or a path.
    """
    from last import workflow
    from last.data.datasets import load_dataset

    config = settings.config()
    dataset = load_dataset(config.described_in or config.data.name)
    adopted = workflow.adopt(config, dataset, weights, run, _command)
    reporter.answer(f"{adopted.path}; score it with: last evaluate {adopted.path}")


@app.command
def evaluate(
    run: Path,
    /,
    *,
    device: Device = "auto",
    data: str | None = None,
    weights: Weights = "last",
    crops: Annotated[int | None, Parameter(validator=Number(gte=1, lte=100))] = None,
    span: Annotated[float | None, Parameter(validator=Number(gt=0, lte=1))] = None,
    results: Path | None = None,
) -> None:
    """Score a run's network on the test part of its protocol.

    Args:
        run: folder of the run.
        data: folder of the prepared clips, where it is not the one of the training.
        weights: of the last epoch, the best on the validation part, or the last epoch's without their moving average.
        crops: test-time crops; the run's own setting where not given.
        span: share of a clip in each crop; the run's own setting where not given.
        results: folder that also gets a copy of the run's result.json, under a name of its own.
    """
    from last import run_evaluation
    from last.recognizer import choose_device

    opened = Run.open(run).with_settings({} if data is None else {"data.path": data})
    scored = run_evaluation.evaluate(opened, choose_device(device), reporter, weights, crops, span)
    _print_evaluation(opened, scored, results)


@app.command
def predict(
    run: Path,
    files: Annotated[list[Path], Parameter(consume_multiple=True)],
    /,
    *,
    clip: str | None = None,
    top: Positive = 5,
    device: Device = "auto",
    json: Annotated[bool, Parameter(negative=())] = False,
) -> int:
    """Name the action in each clip; exit code 1 where a file could not be read.

    Args:
        run: folder of a run, a .safetensors file from one, or the name of a pretrained network.
        files: clips in any format that LAST reads, or folders and zips of them.
        clip: only the clip of this name in them.
        top: how many classes to print for each.
        json: print JSON.
    """
    from last.data.formats import FORMATS, list_clips
    from last.recognizer import Recognizer

    recognizer = Recognizer(run, device)
    formats = [known.with_reading(recognizer.reading) for known in FORMATS.values()]
    answers, failed = [], False

    def skip(error: Exception) -> None:  # the other clips still get their answers
        nonlocal failed
        failed = True
        reporter.say(f"last: {error}")

    for path in files:
        try:
            found = list_clips(path, clip, formats)
        except (OSError, ValueError) as error:
            skip(error)
            continue
        for known, source in found:
            try:
                raw = known.read(source)
                _, cleaned = recognizer.clean(raw)
                best = recognizer.rank(recognizer.predict_clips([raw]), top)[0]
            except (OSError, ValueError) as error:
                skip(error)
                continue
            answers.append(
                {
                    "file": str(source),
                    "frames": raw.frames,
                    "bodies": raw.bodies,
                    "cleaned": dict(cleaned),
                    "classes": [{"class": name, "probability": round(p, 6)} for name, p in best],
                }
            )
            if not json:
                repairs = "".join(f"; {what}: {count}" for what, count in cleaned.items())
                reporter.answer(f"{source} ({raw.frames} frames, {bodies_in_words(raw.bodies)}{repairs})")
                for name, probability in best:
                    reporter.answer(f"  {100 * probability:5.1f} %  {name}")
    if json:
        print_json(answers)
    return int(failed)


@app.command
def config(*, settings: Settings = Settings()) -> None:
    """Print what a command would run with, and where each value came from."""
    merged = settings.config()
    for section, keys in merged.to_dict().items():
        for key, value in keys.items():
            name = f"{section}.{key}"
            reporter.answer(f"{name:<26} {'none' if value is None else str(value):<32} {merged.origins[name]}")


def _named(config: Config, way: str, settings: Settings) -> dict[str, Any]:
    """The recipe by a name that tells a result from that of the recipe alone, and all that was given, a name too."""
    return {"training.recipe": f"{config.training.recipe}_{way}"} | settings.overrides()


def _print_evaluation(run: Run, evaluation: "Evaluation", results: Path | None) -> None:
    result = evaluation.result
    columns = ("model", "parameters", "test part", "clips", *evaluation.metrics.shown)
    table = plain_table(*columns, words=("model", "test part"))
    table.add_row(
        result["model"],
        f"{result['parameters']:,}",
        f"{result['dataset']}/{result['protocol']}",
        str(result["test_clips"]),
        *(f"{score:.2f}" for score in evaluation.metrics.shown.values()),
    )
    reporter.answer(table)
    if copies := result["test_clips_copied_from_training"]:
        rest = result["top1_without_copies"]
        without = "there are no others" if rest is None else f"without them top-1 is {rest:.2f}"
        reporter.answer(f"{copies} of the test clips have exactly the joints of a training clip; {without}")
    origin = (
        f"weights of {result['published']['file']}"
        if "published" in result
        else f"trained in {result['seconds']:.0f} s"
    )
    reporter.answer(f"{origin}; report: {evaluation.report}")
    if results is not None:
        reporter.answer(f"result: {run.copy_result(evaluation.result_file, results)}")


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
        reporter.say("last: stopped; files that were there are unchanged, and the same command goes on where it can")
        return 1
    except (OSError, ValueError, RuntimeError) as error:
        reporter.say(f"last: {error}")
        return 1


if __name__ == "__main__":
    sys.exit(main())
