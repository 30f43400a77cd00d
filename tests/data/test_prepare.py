"""Raw files become the same store however they are prepared, and nothing is left out in silence."""

import errno
import json
import os
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import last
from last.config import CONFIG_DIR, read_yaml
from last.data import prepare as prepare_module
from last.data.clean import CleanOptions
from last.data.clip import Clip, FormatError
from last.data.formats import FORMATS, Format, Reading, Source
from last.data.prepare import PrepareReport, prepare
from last.data.protocols import split
from last.data.store import ClipStore, StoreError
from last.skeleton import load_layout

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data is not at {DATA}")
UCLA = FORMATS["nw_ucla"]
KINECT, NTU = load_layout("kinect20"), load_layout("ntu")
CLASSES = tuple(read_yaml(CONFIG_DIR / "data" / "classes" / "nw_ucla.yaml")["classes"])


def write_clip(folder: Path, name: str, label: int = 1, seed: int = 0, frames: int = 3, **change: object) -> None:
    folder.mkdir(exist_ok=True)
    skeletons = np.random.default_rng(seed).normal(size=(frames, 20, 3)).tolist()
    (folder / f"{name}.json").write_text(json.dumps({"skeletons": skeletons, "label": label} | change))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Seven clips, one of an outside class, one broken, one without a skeleton."""
    folder = tmp_path / "raw"
    for i in range(7):
        write_clip(folder, f"a02_s0{i + 1}_e00_v01", label=2, seed=i)
    write_clip(folder, "a12_s01_e00_v01", label=10)
    write_clip(folder, "a01_s01_e00_v02", skeletons=[])
    (folder / "a01_s01_e00_v03.json").write_text("{")
    return folder


def contents(store: Path) -> dict[str, bytes]:
    """The files of a store, without the day on which it was made."""
    files = {path.name: path.read_bytes() for path in store.iterdir()}
    meta = json.loads(files["meta.json"])
    del meta["created"]
    return files | {"meta.json": json.dumps(meta).encode()}


def run(raw: Path, out: Path, options: CleanOptions | None = None) -> PrepareReport:
    return prepare(UCLA, [raw], out, KINECT, CLASSES[:9], options, workers=1)


def test_each_file_left_out_is_reported_with_its_reason(raw, tmp_path):
    report = run(raw, tmp_path / "s")
    assert (report.files, report.kept) == (10, 7)
    assert report.reasons() == {"class outside the set": 1, "no skeleton": 1, "unreadable": 1}
    details = {Path(record["file"]).name: record["detail"] for record in report.left_out}
    assert "label 9, expected 0 to 8" in details["a12_s01_e00_v01.json"]
    assert "holds no frame" in details["a01_s01_e00_v02.json"]
    assert "line 1: not JSON" in details["a01_s01_e00_v03.json"]
    assert json.loads((tmp_path / "s" / "report.json").read_text()) == report.to_dict()
    store = ClipStore.open(tmp_path / "s")
    assert store.names() == [f"a02_s0{i}_e00_v01" for i in range(1, 8)] and store.classes == CLASSES[:9]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "s"]


def test_workers_and_packing_change_nothing(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "CHUNK", 4)
    done = []
    prepare(UCLA, [raw], tmp_path / "one", KINECT, CLASSES, workers=1, progress=lambda *d: done.append(d))
    # Ten files are read, then three chunks of them are stored.
    assert done == [(n, 13) for n in (0, 4, 8, 10, 11, 12, 13)]
    prepare(UCLA, [raw], tmp_path / "two", KINECT, CLASSES, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        for file in sorted(raw.iterdir(), reverse=True):
            archive.write(file, f"folder/{file.name}")
    prepare(UCLA, [tmp_path / "raw.zip"], tmp_path / "zip", KINECT, CLASSES, workers=1)
    assert contents(tmp_path / "zip")["joints.npy"] == contents(tmp_path / "one")["joints.npy"]


# Dies at each step that reaches the disk, one after the other, and goes on each time.
KILLED = """
import itertools, json, os, shutil, signal, sys
from pathlib import Path
from last.data import prepare as module
from last.data.formats import FORMATS
from last.skeleton import load_layout

raw, out = map(Path, sys.argv[1:])
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir"}
module.CHUNK = 2
os.fsync = lambda _: None  # of what use is to outlive a loss of power

def run():
    return module.prepare(FORMATS["nw_ucla"], [raw], out, load_layout("kinect20"), CLASSES, workers=1)

def contents():
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    meta = json.loads(files["meta.json"])
    del meta["created"]
    return files | {"meta.json": json.dumps(meta)}

run()
whole = contents()
for fatal in itertools.count():
    if fatal % 2:  # there is no store to be replaced
        shutil.rmtree(out)
    child = os.fork()
    if not child:
        steps = itertools.count()

        def kill(event, args):
            if event in STEPS and next(steps) == fatal:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(kill)
        run()
        os._exit(0)
    if os.waitpid(child, 0)[1] == 0:
        break
    report = run()
    assert contents() == whole, fatal
    assert os.listdir(out.parent) == [out.name], fatal
    print(report.resumed)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a system that can fork")
def test_a_run_killed_at_any_step_goes_on_and_ends_the_same(tmp_path):
    for i in range(3):
        write_clip(tmp_path / "raw", f"a02_s0{i + 1}_e00_v01", label=2, seed=i)
    (tmp_path / "out").mkdir()
    script = KILLED.replace("CLASSES", repr(CLASSES[:9]))
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "raw", tmp_path / "out" / "s"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    resumed = [int(line) for line in done.stdout.split()]
    assert len(resumed) > 50 and set(resumed) == {0, 1, 2, 3}


def read_or_die(source: Source) -> Clip:
    """A worker's end, as the system brings it about where memory is short, while a file 'fatal' lies beside."""
    if source.name.endswith("v03") and source.path.with_name("fatal").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return UCLA.read(source)


def test_a_killed_worker_is_told_and_the_next_run_goes_on(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "CHUNK", 1)
    (raw / "fatal").touch()
    deadly = replace(UCLA, read=read_or_die)
    with pytest.raises(StoreError, match=r"a worker process died.*run it again to go on"):
        prepare(deadly, [raw], tmp_path / "s", KINECT, CLASSES[:9], workers=2)
    (raw / "fatal").unlink()
    prepare(deadly, [raw], tmp_path / "s", KINECT, CLASSES[:9], workers=2)
    run(raw, tmp_path / "whole")
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def many_names(source: Source) -> list[str]:
    return [f"{source.file.stem}{i}" for i in range(3)]


def read_many(source: Source) -> Clip:
    """One of three clips of a file; notes the process beside it. Each clip's part is one that others lack."""
    with source.path.with_suffix(".log").open("a") as log:
        log.write(f"{os.getpid()}\n")
    number = int(source.name[-1])
    joints = np.full((2, 1, 20, 3), 1 + number, np.float32)
    sure = np.full((2, 1, 20), 0.5, np.float32) if source.name == "b1" else None
    return Clip(joints, source.name, "kinect20", number, confidence=sure, parts=(f"{source.name}/train", "all/test"))


def test_one_worker_alone_reads_a_file_of_many_clips(tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "CHUNK", 2)
    (tmp_path / "raw").mkdir()
    for stem in "abcd":
        (tmp_path / "raw" / f"{stem}.many").touch()
    many = Format("many", "three clips a file", ".many", read_many, "kinect20", clips=many_names)
    report = prepare(many, [tmp_path / "raw"], tmp_path / "s", KINECT, CLASSES, workers=2)
    assert (report.files, report.kept) == (12, 12)
    for stem in "abcd":
        readers = (tmp_path / "raw" / f"{stem}.log").read_text().split()
        assert len(readers) == 3 and len(set(readers)) == 1
    store = ClipStore.open(tmp_path / "s")
    assert store.names() == [f"{stem}{i}" for stem in "abcd" for i in range(3)]
    for clip in store:  # whose parts have another bit in each shard
        assert set(clip.parts) == {f"{clip.name}/train", "all/test"}
        assert (clip.joints == 1 + int(clip.name[-1])).all()
        assert (clip.confidence is None) == (clip.name != "b1")
    np.testing.assert_allclose(store[store.index("b1")].confidence, 0.5, atol=0.002)


def test_a_store_tells_its_making_and_its_protocols(raw, tmp_path):
    rules = {"mine": {"train": {"subject": [1, 2]}}}
    prepare(UCLA, [raw], tmp_path / "s", KINECT, CLASSES[:9], workers=1, dtype="float16", protocols=rules)
    store = ClipStore.open(tmp_path / "s")
    assert store.joints.dtype == np.float16 and store.meta["dtype"] == "float16"
    assert store.meta["protocols"] == rules
    assert store.meta["provenance"] == {
        "raw": ["raw"],
        "format": "nw_ucla",
        "columns": {},
        "cleaning": {"min_frames": 1, "max_spread": None, "max_implausible": 0.69754, "max_bodies": 2},
        "files": 10,
        "left out": {"class outside the set": 1, "no skeleton": 1, "unreadable": 1},
        "cleaned": {},
        "last": last.__version__,
    }
    run(raw, tmp_path / "full")
    for half, full in zip(store, ClipStore.open(tmp_path / "full"), strict=True):
        assert half.name == full.name
        np.testing.assert_allclose(half.joints, full.joints, atol=2e-3)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")  # of Ray's own
def test_a_ray_cluster_makes_the_same_store(raw, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="the extra 'ray' is not installed")
    monkeypatch.setattr(prepare_module, "CHUNK", 3)
    run(raw, tmp_path / "whole")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        prepare(UCLA, [raw], tmp_path / "s", KINECT, CLASSES[:9], engine="ray")
    finally:
        ray.shutdown()
    assert contents(tmp_path / "s") == contents(tmp_path / "whole")


def break_off(raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a partial folder of one chunk."""
    monkeypatch.setattr(prepare_module, "CHUNK", 4)

    def stop(done: int, _: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(UCLA, [raw], out, KINECT, CLASSES[:9], workers=1, progress=stop)
    assert len(list(out.with_name(f"{out.name}.partial").iterdir())) == 2


@pytest.mark.parametrize("change", ["options", "files"])
def test_other_files_or_options_start_anew_and_say_so(raw, tmp_path, monkeypatch, caplog, change):
    break_off(raw, tmp_path / "s", monkeypatch)
    if change == "files":
        write_clip(raw, "a02_s09_e00_v01", label=2)
    report = run(raw, tmp_path / "s", CleanOptions(max_bodies=1) if change == "options" else None)
    assert report.resumed == 0 and report.kept == 7 + (change == "files")
    assert "begun with other files or options, so it starts anew" in caplog.text


def test_a_full_disk_leaves_the_old_store_and_the_finished_chunks(raw, tmp_path, monkeypatch):
    run(raw, tmp_path / "s")
    before = contents(tmp_path / "s")
    break_off(raw, tmp_path / "s", monkeypatch)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StoreError, match="No space left on device; free some space"):
            run(raw, tmp_path / "s")
    assert contents(tmp_path / "s") == before
    assert run(raw, tmp_path / "s").resumed == 4


def test_a_second_process_leaves_the_first_alone(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "CHUNK", 4)
    refused = []

    def second(*_: int) -> None:
        with pytest.raises(StoreError, match=r"another process prepares the same store .*s\.partial; wait until"):
            run(raw, tmp_path / "s")
        refused.append(run(raw, tmp_path / "other").kept)

    report = prepare(UCLA, [raw], tmp_path / "s", KINECT, CLASSES[:9], workers=1, progress=second)
    assert len(refused) > 3 and report.kept == 7
    assert contents(tmp_path / "s") == contents(tmp_path / "other")
    assert run(raw, tmp_path / "s").kept == 7  # which is free again


def test_a_foreign_folder_in_the_way_is_not_removed(raw, tmp_path):
    (tmp_path / "s.partial").mkdir()
    (tmp_path / "s.partial" / "thesis").touch()
    with pytest.raises(StoreError, match=r"s\.partial is in the way"):
        run(raw, tmp_path / "s")
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis").touch()
    with pytest.raises(StoreError, match="is not a store"):
        run(raw, tmp_path / "t")


def test_a_broken_zip_within_the_folder_is_reported(raw, tmp_path):
    (raw / "more.zip").write_bytes(b"PK nothing")
    report = run(raw, tmp_path / "s")
    assert (report.files, report.kept, report.reasons()["unreadable"]) == (11, 7, 2)
    (record,) = (record for record in report.left_out if record["file"] == str(raw / "more.zip"))
    assert "cannot read the archive" in record["detail"]
    with pytest.raises(FormatError, match="cannot read the archive"):
        run(raw / "more.zip", tmp_path / "t")


def test_what_is_replaced_is_told_and_another_data_set_is_not(raw, tmp_path):
    report = run(raw, tmp_path / "s")
    assert report.replaced == 0
    again = run(raw, tmp_path / "s")
    assert again.replaced == 7 and again.to_dict() == report.to_dict()
    before = contents(tmp_path / "s")
    with pytest.raises(StoreError, match=r"other classes .* so it is not replaced"):
        prepare(UCLA, [raw], tmp_path / "s", KINECT, CLASSES, workers=1)
    assert contents(tmp_path / "s") == before and not (tmp_path / "s.partial").exists()


def test_names_that_repeat_are_reported(raw, tmp_path):
    write_clip(raw / "again", "a02_s01_e00_v01", label=2, seed=9)
    report = run(raw, tmp_path / "s")
    assert (report.files, report.kept, report.reasons()["name taken"]) == (11, 7, 1)


def test_a_name_that_tells_no_class_is_left_out(tmp_path):
    (tmp_path / "raw").mkdir()
    body = "\n".join(["1", "1", "7 0 0 0 0 0 0 0 0 2", "25", *["1 2 3 4 5 6 7 8 9 10 11 2"] * 25])
    for name in ("S001C001P001R001A001", "mine"):
        (tmp_path / "raw" / f"{name}.skeleton").write_text(body)
    report = prepare(FORMATS["ntu"], [tmp_path / "raw"], tmp_path / "s", NTU, CLASSES, workers=1)
    assert report.kept == 1 and report.reasons() == {"no class": 1}
    assert report.left_out[0]["detail"].endswith("mine.skeleton has a name that tells no class, subject and camera")


def test_a_table_that_tells_no_class_is_told_what_would(tmp_path, stick):
    file = tmp_path / "take" / "c.csv"
    file.parent.mkdir()
    names = [f"{joint}_{axis}" for joint in stick.joints for axis in "xyz"]
    file.write_text(f"action,{','.join(names)}\n,{','.join('1' for _ in names)}\n")
    for columns, sentence in (
        ({}, r"c.csv tells no label, and its folder is not named after a class \(wave, sit\); name .*columns.label"),
        ({"label": "action"}, r"c.csv has nothing in 'action', which .* under columns.label"),
    ):
        known = FORMATS["csv"].with_reading(Reading(stick, ("wave", "sit"), columns))
        with pytest.raises(StoreError, match=sentence):
            prepare(known, [tmp_path / "take"], tmp_path / "s", stick, ("wave", "sit"), workers=1)


def test_nothing_usable_is_an_error_with_the_first_reason(tmp_path):
    write_clip(tmp_path / "raw", "a01_s01_e00_v02", skeletons=[])
    with pytest.raises(StoreError, match=r"none of the 1 files could be used; the first: .* holds no frame"):
        run(tmp_path / "raw", tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_another_layout_is_refused(raw, tmp_path):
    with pytest.raises(FormatError, match=r"\.json files have the layout 'kinect20', expected 'ntu'"):
        prepare(UCLA, [raw], tmp_path / "s", NTU, CLASSES)


@real
def test_real_nw_ucla_gives_its_published_protocol(tmp_path):
    report = prepare(UCLA, [DATA / "nw_ucla_all_sqe.zip"], tmp_path / "s", KINECT, CLASSES, workers=1)
    assert (report.files, report.kept, report.left_out) == (1484, 1484, [])
    assert report.cleaned == Counter({"joints filled": 12})
    store = ClipStore.open(tmp_path / "s")
    train, test = split(store, "xview", "nw_ucla")
    assert (len(train), len(test)) == (1020, 464)
    assert (store.clips["frames"] == 1).sum() == 2
    assert np.array_equal(np.unique(store.clips["label"]), np.arange(10))


@real
def test_real_ntu_files_are_prepared_with_both_bodies(tmp_path):
    classes = read_yaml(CONFIG_DIR / "data" / "classes" / "ntu120.yaml")["classes"]
    report = prepare(FORMATS["ntu"], [DATA / "ntu_raw"], tmp_path / "s", NTU, classes[:50], workers=1)
    assert (report.kept, report.reasons()) == (8, {"class outside the set": 2})
    store = ClipStore.open(tmp_path / "s")
    punch = store[store.index("S001C001P001R001A050")]
    assert store.classes[punch.label] == "punch/slap" and punch.joints.shape == (74, 2, 25, 3)
