"""Raw files become the same store however they are prepared, and nothing is left out in silence."""

import errno
import json
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from last.config import CONFIG_DIR, read_yaml
from last.data import prepare as prepare_module
from last.data.clean import CleanOptions
from last.data.clip import FormatError
from last.data.prepare import PrepareReport, prepare
from last.data.protocols import split
from last.data.store import ClipStore, StoreError
from last.skeleton import load_layout

DATA = Path(__file__).parents[3] / "shared" / "data"
real = pytest.mark.skipif(not DATA.is_dir(), reason=f"the real data is not at {DATA}")
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
    return prepare("nw_ucla", [raw], out, KINECT, CLASSES[:9], options, workers=1)


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
    prepare("nw_ucla", [raw], tmp_path / "one", KINECT, CLASSES, workers=1, progress=lambda *d: done.append(d))
    # Ten files are read, then three chunks of them are stored.
    assert done == [(n, 13) for n in (4, 8, 10, 11, 12, 13)]
    prepare("nw_ucla", [raw], tmp_path / "two", KINECT, CLASSES, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    with zipfile.ZipFile(tmp_path / "raw.zip", "w") as archive:
        for file in sorted(raw.iterdir(), reverse=True):
            archive.write(file, f"folder/{file.name}")
    prepare("nw_ucla", [tmp_path / "raw.zip"], tmp_path / "zip", KINECT, CLASSES, workers=1)
    assert contents(tmp_path / "zip")["joints.npy"] == contents(tmp_path / "one")["joints.npy"]


def test_a_killed_run_goes_on_and_ends_the_same(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(prepare_module, "CHUNK", 2)
    run(raw, tmp_path / "whole")
    # A process of its own dies in the middle of the third chunk, without any chance to tidy up.
    script = f"""
import os, sys
from pathlib import Path
from last.data import prepare
from last.data.store_writer import StoreWriter
from last.skeleton import load_layout

append, calls = StoreWriter.append, []

def append_three(self, clip):
    calls.append(clip)
    os._exit(9) if len(calls) == 4 else append(self, clip)

StoreWriter.append = append_three
prepare.CHUNK = 2
raw, out = map(Path, sys.argv[1:])
prepare.prepare("nw_ucla", [raw], out, load_layout("kinect20"), {CLASSES[:9]}, workers=1)
"""
    killed = subprocess.run([sys.executable, "-c", script, raw, tmp_path / "cut"], env=os.environ, check=False)
    assert killed.returncode == 9 and not (tmp_path / "cut").exists()
    report = run(raw, tmp_path / "cut")
    assert report.resumed == 4
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert not (tmp_path / "cut.partial").exists()


def break_off(raw: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a partial folder of one chunk."""
    monkeypatch.setattr(prepare_module, "CHUNK", 4)

    def stop(*_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("nw_ucla", [raw], out, KINECT, CLASSES[:9], workers=1, progress=stop)
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
        prepare("nw_ucla", [raw], tmp_path / "s", KINECT, CLASSES, workers=1)
    assert contents(tmp_path / "s") == before and not (tmp_path / "s.partial").exists()


def test_as_many_workers_as_cores_that_may_be_used(raw, tmp_path, monkeypatch):
    asked = []

    def note(job, todo, workers):
        asked.append(workers)
        return make(job, todo, 1)

    make = prepare_module._run
    monkeypatch.setattr(prepare_module, "_run", note)
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {5, 9, 11}, raising=False)
    prepare("nw_ucla", [raw], tmp_path / "s", KINECT, CLASSES)
    monkeypatch.delattr("os.sched_getaffinity")  # as on macOS and Windows
    prepare("nw_ucla", [raw], tmp_path / "s", KINECT, CLASSES)
    assert asked == [3, 64]


def test_names_that_repeat_are_reported(raw, tmp_path):
    write_clip(raw / "again", "a02_s01_e00_v01", label=2, seed=9)
    report = run(raw, tmp_path / "s")
    assert (report.files, report.kept, report.reasons()["name taken"]) == (11, 7, 1)


def test_a_name_that_tells_no_class_is_left_out(tmp_path):
    (tmp_path / "raw").mkdir()
    body = "\n".join(["1", "1", "7 0 0 0 0 0 0 0 0 2", "25", *["1 2 3 4 5 6 7 8 9 10 11 2"] * 25])
    for name in ("S001C001P001R001A001", "mine"):
        (tmp_path / "raw" / f"{name}.skeleton").write_text(body)
    report = prepare("ntu", [tmp_path / "raw"], tmp_path / "s", NTU, CLASSES, workers=1)
    assert report.kept == 1 and report.reasons() == {"no class": 1}
    assert report.left_out[0]["detail"].endswith("mine.skeleton has a name that tells no class, subject and camera")


def test_nothing_usable_is_an_error_with_the_first_reason(tmp_path):
    write_clip(tmp_path / "raw", "a01_s01_e00_v02", skeletons=[])
    with pytest.raises(StoreError, match=r"none of the 1 files could be used; the first: .* holds no frame"):
        run(tmp_path / "raw", tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_another_layout_is_refused(raw, tmp_path):
    with pytest.raises(FormatError, match=r"\.json files have the layout 'kinect20', expected 'ntu'"):
        prepare("nw_ucla", [raw], tmp_path / "s", NTU, CLASSES)


@real
def test_real_nw_ucla_gives_its_published_protocol(tmp_path):
    report = prepare("nw_ucla", [DATA / "nw_ucla_all_sqe.zip"], tmp_path / "s", KINECT, CLASSES, workers=1)
    assert (report.files, report.kept, report.left_out) == (1484, 1484, [])
    assert report.cleaned == Counter({"joints filled": 12})
    store = ClipStore.open(tmp_path / "s")
    train, test = split(store.clips, "xview", "nw_ucla")
    assert (len(train), len(test)) == (1020, 464)
    assert (store.clips["frames"] == 1).sum() == 2
    assert np.array_equal(np.unique(store.clips["label"]), np.arange(10))


@real
def test_real_ntu_files_are_prepared_with_both_bodies(tmp_path):
    classes = read_yaml(CONFIG_DIR / "data" / "classes" / "ntu120.yaml")["classes"]
    report = prepare("ntu", [DATA / "ntu_raw"], tmp_path / "s", NTU, classes[:50], workers=1)
    assert (report.kept, report.reasons()) == (8, {"class outside the set": 2})
    store = ClipStore.open(tmp_path / "s")
    punch = store[store.index("S001C001P001R001A050")]
    assert store.classes[punch.label] == "punch/slap" and punch.joints.shape == (74, 2, 25, 3)
