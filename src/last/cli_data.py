"""The commands of `last data`."""

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.validators import Number

from last.config import load_config
from last.progress import Reporter

data = App(name="data", help="Get, prepare and look at clips.")
reporter = Reporter()

Positive = Annotated[int, Parameter(validator=Number(gte=1))]


def is_file(name: str) -> bool:
    """Whether a configuration is given by a file of the user's own."""
    return name.endswith((".yaml", ".yml"))


def plain_name(name: str) -> str:
    """The name of a configuration, in which hyphen and underscore are the same; a file's path stays as it is."""
    return name if is_file(name) else name.replace("-", "_")


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
        reporter.answer(f"{dataset.name}: {dataset.title}")
        reporter.answer(f"  {len(dataset.classes)} classes; protocols {', '.join(dataset.protocols)}; {state}")


@data.command
def prepare(
    dataset: str,
    *,
    raw: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative=())] = None,
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
    name = plain_name(dataset)
    merged = load_config(dataset=name, environment=env, overrides={k: v for k, v in given.items() if v is not None})
    with reporter.bar(f"preparing {name}") as advance:
        report = prepare_dataset(raw, merged, advance)
    if report.resumed:
        reporter.answer(f"{report.resumed:,} files had been read by an earlier run")
    reporter.answer(
        f"{report.kept:,} of {report.files:,} files are now clips in {merged.store_path()}{_instead(report.replaced)}"
    )
    for reason, count in report.reasons().most_common():
        example = next(record["file"] for record in report.left_out if record["reason"] == reason)
        reporter.answer(f"  left out: {reason}: {count:,}, such as {example}")
    for what, count in sorted(report.cleaned.items()):
        reporter.answer(f"  {what}: {count:,}")
    reporter.answer(f"report: {merged.store_path() / 'report.json'}")


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
    reporter.answer(f"{len(synthetic.clip_names()):,} clips in {ntu or out}{_instead(replaced)}")


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
        reporter.answer(str(finding))
    if not findings:
        reporter.answer(f"{path}: nothing to complain about")
    return int(any(finding.severity == "error" for finding in findings))


@data.command
def show(
    path: Path, /, *, clip: str | None = None, out: Path | None = None, frames: Positive = 8, frame_rate: float = 30.0
) -> None:
    """Draw a clip as a picture (.png), an animation (.gif), or a player that can be turned by hand (.html).

    Args:
        path: a raw file, a folder or zip of them, or a store.
        clip: name of the clip, or its number in a store; the first where not given.
        out: the picture, <clip name>.png in this folder where not given.
        frames: poses in a .png.
        frame_rate: frames a second of the recording.
    """
    from last.data.show import load_clip
    from last.report.pictures import draw_clip

    chosen, layout = load_clip(path, clip)
    target = out or Path(f"{chosen.name}.png")
    draw_clip(chosen, target, frames, layout, frame_rate)
    reporter.answer(f"{target}: {chosen.frames} frames, {bodies_in_words(chosen.bodies)}")


def _instead(replaced: int) -> str:
    return f", instead of {replaced:,} that were there" if replaced else ""


def bodies_in_words(count: int) -> str:
    """As in '1 body' and '2 bodies'."""
    return "1 body" if count == 1 else f"{count} bodies"
