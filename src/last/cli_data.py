"""The commands of `last data` that make stores and other files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, Parameter
from cyclopts.validators import Number

from last.config import is_file, load_config
from last.progress import Reporter
from last.setting_values import ConfigError

data = App(name="data", help="Get, prepare, convert and look at clips.")
reporter = Reporter()

Positive = Annotated[int, Parameter(validator=Number(gte=1))]


def network_name(name: str) -> str:
    """The registered name of a network, which may be an alias; the path of a person's own file stays as it is.

    Raises:
        ConfigError: there is no such network.
    """
    from last.models import canonical_name

    if is_file(name):
        return name
    try:
        return canonical_name(name)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def plain_name(name: str) -> str:
    """The name of a configuration, in which hyphen and underscore are the same; a path stays as it is."""
    return name if is_file(name) or Path(name).name != name else name.replace("-", "_")


def assignments(items: Sequence[str]) -> dict[str, str]:
    """Settings by section.key, from ``--set section.key=value``.

    Raises:
        ConfigError: one has no value.
    """
    given = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(f"--set {item} has no '=', expected section.key=value, such as training.ema=0.99")
        given[key.replace("-", "_")] = value
    return given


@data.command(name="list")
def list_data(*, env: str | None = None) -> None:
    """List the data sets, their protocols, and whether they are prepared here; then what else is, such as your own.

    Args:
        env: machine: local, kaggle or gcp; detected where not given.
    """
    from last.data.datasets import list_datasets
    from last.data.info import other_stores, packaged_dataset
    from last.data.protocols import protocols_for
    from last.data.store import ClipStore, StoreError

    for dataset in list_datasets():
        path = load_config(dataset=dataset.name, environment=env).store_path()
        try:
            state = f"{len(ClipStore.open(path)):,} clips in {path}"
        except StoreError as error:
            state = str(error) if path.exists() else f"not prepared, {path} does not exist"
        reporter.answer(f"{dataset.name}: {dataset.title}")
        reporter.answer(f"  {len(dataset.classes)} classes; protocols {', '.join(dataset.protocols)}; {state}")
    for path in other_stores(Path(load_config(environment=env).environment.data_root).expanduser()):
        try:
            store = ClipStore.open(path)
        except StoreError as error:
            reporter.answer(f"{path.name}: {error}")
            continue
        dataset = packaged_dataset(store)
        whose = f"clips of {dataset}" if dataset else "your own"
        protocols = ", ".join(protocols_for(store, dataset)) or "none"
        reporter.answer(f"{path.name}: {whose}; train with --dataset {dataset or 'FILE.yaml'} --data {path}")
        reporter.answer(f"  {len(store.classes)} classes; protocols {protocols}; {len(store):,} clips in {path}")


@data.command
def new(path: Path, /, *, name: str, folder: Path = Path()) -> None:
    """Describe your own CSV, JSON or parquet recordings: writes NAME.yaml, and a layout where none fits.

    Args:
        path: the file, or a folder or zip of them.
        name: of the data set to be.
        folder: where the two files go.
    """
    from last.data.own_description import write_description

    for sentence in write_description(path, name, folder):
        reporter.answer(sentence)


@data.command
def prepare(
    dataset: str,
    *,
    raw: Annotated[list[Path] | None, Parameter(consume_multiple=True, negative=())] = None,
    protocol: Annotated[str | None, Parameter(name=["--protocol", "--split-type"])] = None,
    data: str | None = None,
    env: str | None = None,
    workers: int | None = None,
    engine: Literal["processes", "ray"] = "processes",
    dtype: Literal["float32", "float16"] = "float32",
    max_bodies: Positive | None = None,
    min_frames: Positive | None = None,
    max_spread: float | None = None,
    max_implausible: float | None = None,
    mib: Path | None = None,
) -> None:
    """Turn raw files into a store; can be interrupted and goes on where it stopped.

    Args:
        dataset: which; see 'last data list', or the path of your own description.
        raw: folders, zip archives or files; <data_root>/raw/<dataset> where not given.
        protocol: checked, and that of --mib; one store serves every protocol.
        data: where the store goes; <data_root>/<dataset> where not given.
        env: machine: local, kaggle or gcp.
        workers: how many; one for each core at hand where not given.
        engine: processes of this machine, or a Ray cluster.
        dtype: of the joints; float16 takes half of the room and rounds a joint 4 m away to 2 mm.
        max_bodies: how many bodies are kept, the most moving ones.
        min_frames: a body seen in fewer frames is dropped.
        max_spread: a body is implausible in a frame where it is wider than this times its height.
        max_implausible: a body implausible in this fraction of its frames is dropped.
        mib: also write the streams of the protocol's clips into this folder, as the original's preprocessing did.
    """
    from last.data.datasets import load_dataset, prepare_dataset

    given = {
        "data.protocol": protocol,
        "data.path": data,
        "data.max_bodies": max_bodies,
        "data.min_frames": min_frames,
        "data.max_spread": max_spread,
        "data.max_implausible": max_implausible,
        "environment.workers": workers,
    }
    name = plain_name(dataset)
    described = load_dataset(name)
    merged = load_config(dataset=name, environment=env, overrides={k: v for k, v in given.items() if v is not None})
    with reporter.bar(f"preparing {described.name}") as advance:
        report = prepare_dataset(described, raw, merged, dtype, engine, advance)
    if report.resumed:
        reporter.answer(f"{report.resumed:,} clips had been read by an earlier run")
    reporter.answer(
        f"{report.kept:,} of {report.files:,} clips are now in {merged.store_path()}{_instead(report.replaced)}"
    )
    for reason, count in report.reasons().most_common():
        example = next(record for record in report.left_out if record["reason"] == reason)
        reporter.answer(f"  left out: {reason}: {count:,}, such as: {example['detail']}")
    expected = described.expected if described.expected.get("files") == report.files else {}
    for reason, count in expected.items():
        if reason != "files" and report.reasons()[reason] != count:
            reporter.answer(
                f"  of the whole set others found {count:,} left out for '{reason}'; raw files may be damaged"
            )
    for what, count in sorted(report.cleaned.items()):
        reporter.answer(f"  {what}: {count:,}")
    reporter.answer(f"report: {merged.store_path() / 'report.json'}")
    if mib is not None:
        export(merged.store_path(), mib, format="mib", protocol=merged.data.protocol)


@data.command
def synthesize(
    *, out: Path | None = None, ntu: Path | None = None, csv: Path | None = None, env: str | None = None
) -> None:
    """Make the embedded set: a seeded animated body, the same clips for everyone.

    Args:
        out: where the store goes; <data_root>/synthetic where not given.
        ntu: write NTU .skeleton files into this folder instead.
        csv: write a CSV of 15 joints, as nobody has described them, instead: to try 'last data new' on.
        env: machine: local, kaggle or gcp.
    """
    from last.data import synthetic

    if sum(target is not None for target in (out, ntu, csv)) > 1:
        raise ConfigError("synthesize makes one thing at a time; give one of --out, --ntu and --csv")
    if csv is not None:
        import numpy as np

        from last.data.synthetic_table import write_csv

        write_csv(csv, np.random.default_rng(0))
        reporter.answer(f"clips of 15 joints in {csv}; describe them: last data new {csv} --name mine")
        return
    replaced = 0
    with reporter.bar("synthesizing") as advance:
        if ntu is not None:
            synthetic.write_ntu(ntu, progress=advance)
        else:
            out = out or load_config(environment=env).store_path()
            replaced = synthetic.synthesize(out, progress=advance).replaced
    reporter.answer(f"{len(synthetic.clip_names()):,} clips in {ntu or out}{_instead(replaced)}")


@data.command
def convert(store: Path, layout: str, out: Path, /) -> None:
    """Write a store in another layout, where the joints of the two correspond.

    Args:
        store: folder of the prepared clips.
        layout: the layout to be: a built-in one such as coco17, or a path.
        out: where the new store goes.
    """
    from last.data.convert import convert_store
    from last.data.store import ClipStore
    from last.data.store_writer import require_replaceable
    from last.skeleton import load_layout

    opened, target = ClipStore.open(store), load_layout(layout)
    replaced = require_replaceable(out, target, opened.classes)
    with reporter.bar("converting") as advance:
        correspondence = convert_store(opened, target, out, advance)
    for line in correspondence.lines():
        reporter.answer(line)
    reporter.answer(f"{len(opened):,} clips in {out}{_instead(replaced)}")


@data.command
def export(store: Path, out: Path, /, *, format: Literal["pyskl", "ctr_gcn", "st_gcn", "mib"], protocol: str) -> None:
    """Write a store as other toolkits read it.

    Args:
        store: folder of the prepared clips.
        out: the file (.pkl for pyskl, .npz for ctr_gcn) or the folder (st_gcn, mib) to be.
        format: of the files.
        protocol: which clips train and which test.
    """
    from last.data.export import export as write
    from last.data.info import packaged_dataset
    from last.data.protocols import split
    from last.data.store import ClipStore

    opened = ClipStore.open(store)
    parts = split(opened, protocol, packaged_dataset(opened))
    with reporter.bar("exporting") as advance:
        write(opened, format, out, parts, protocol, advance)
    reporter.answer(f"{len(parts[0]):,} clips that train and {len(parts[1]):,} that test in {out}")


def _instead(replaced: int) -> str:
    return f", instead of {replaced:,} that were there" if replaced else ""
