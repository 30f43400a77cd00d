"""No file that a person opens runs anything, or writes where it should not."""

import json
import os
import pickle
import shlex
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing import files_ending, samples

from last.data.formats import FORMATS, find_files, read_clip
from last.data.store import ClipStore
from last.files import file_name


class Calls:
    """Pickled, it is a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


def text(value: str) -> bytes:
    """A text as a pickle has it."""
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def payloads(trace: Path) -> dict[str, bytes]:
    """Pickles that leave a trace where they are unpickled."""
    command, code = f"touch {shlex.quote(str(trace))}", f"open({str(trace)!r}, 'w').close()"
    system, evaluated = Calls(os.system, command), Calls(eval, code)
    call = text(command) + b"\x85R."
    return {
        **{f"a call, protocol {p}": pickle.dumps(system, protocol=p) for p in range(6)},
        "eval": pickle.dumps(evaluated),
        "a value of a dict": pickle.dumps({"split": {"train": []}, "annotations": [{"keypoint": evaluated}]}),
        "a label": pickle.dumps((["clip0"], [system])),
        "an item of an array of objects": pickle.dumps([np.array([evaluated], dtype=object)]),
        "a name that leads through numpy": b"\x80\4"
        + text("numpy.lib._npyio_impl")
        + text("os.system")
        + b"\x93"
        + call,
        "an old instruction": b"(S'" + command.encode() + b"'\nios\nsystem\n.",
        "getattr": pickle.dumps(Calls(getattr, Calls(__import__, "os"), "system"))[:-1] + call,
    }


NAMES_OF_PAYLOADS = list(payloads(Path("x")))


def test_the_payloads_run_where_nobody_refuses_them(tmp_path):
    ran = []
    for name, payload in payloads(tmp_path / "trace").items():
        try:
            pickle.loads(payload)
        except Exception:
            continue
        ran += [name] if (tmp_path / "trace").exists() else []
        (tmp_path / "trace").unlink(missing_ok=True)
    assert set(NAMES_OF_PAYLOADS) - set(ran) <= {"a name that leads through numpy"}  # as numpy 2 has it


REFUSALS_OF_PICKLES = (
    "which is not plain data; the file is not safe to open",
    "an array of '|O8', expected plain numbers or text",
    "the instruction b'i', which plain data does not need",
    "no checkpoint of LAST, which holds tensors and plain values alone",
)


@pytest.mark.parametrize("payload", NAMES_OF_PAYLOADS)
@pytest.mark.parametrize(("kind", "name"), files_ending(".pkl", ".pt"))
def test_a_pickle_cannot_run_anything(kind, name, payload, tmp_path, refused):
    opened = samples(kind)[0].write(tmp_path)
    (tmp_path / name).write_bytes(payloads(tmp_path / "trace")[payload])
    message = refused(kind, opened)
    assert not (tmp_path / "trace").exists()
    assert any(sentence in message for sentence in REFUSALS_OF_PICKLES)


@pytest.mark.parametrize(("kind", "name"), files_ending(".npy", ".npz"))
def test_an_array_of_objects_cannot_run_anything(kind, name, tmp_path, refused):
    opened = samples(kind)[0].write(tmp_path)
    evil = np.array([Calls(eval, f"open({str(tmp_path / 'trace')!r}, 'w')")], dtype=object)
    if name.endswith(".npz"):
        with np.load(tmp_path / name) as arrays:
            keys = list(arrays)
        np.savez(tmp_path / name, **dict.fromkeys(keys, evil))
    else:
        np.save(tmp_path / name, evil, allow_pickle=True)
    refused(kind, opened)
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_checkpoint_of_torch_cannot_run_anything(is_zip, tmp_path, refused):
    evil = {"epoch": 1, "model": Calls(eval, f"open({str(tmp_path / 'trace')!r}, 'w')")}
    torch.save(evil, tmp_path / "checkpoint.pt", _use_new_zipfile_serialization=is_zip)
    assert "damaged or no checkpoint of LAST, which holds tensors and plain values alone" in refused(
        "checkpoint", tmp_path / "checkpoint.pt"
    )
    (tmp_path / "checkpoint.pt").rename(tmp_path / "best.safetensors")
    assert "cannot read the weights in" in refused("weights", tmp_path / "best.safetensors")
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize("description", ["[]", "7", "null", "[" * 100_000, '{"format": []}', "\ud800"])
def test_weights_whose_description_is_odd_are_refused(description, tmp_path, refused):
    header = json.dumps({"__metadata__": {"last": description}}).encode()
    path = tmp_path / "last.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    refused("weights", path)


@pytest.mark.parametrize(
    "member", ["../../evil.skeleton", "/tmp/evil.skeleton", "a/../../evil.skeleton", "..\\evil.skeleton"]
)
def test_a_zip_writes_nothing_whatever_its_members_are_called(member, tmp_path):
    good = next(iter(samples("ntu")[0].files.values()))
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(member, good)
    before = sorted(tmp_path.parent.rglob("*"))
    assert read_clip(tmp_path / "evil.zip").joints.shape[2:] == (25, 3)
    assert sorted(tmp_path.parent.rglob("*")) == before


def test_a_link_in_a_zip_leads_nowhere(tmp_path, refused):
    link = zipfile.ZipInfo("a.skeleton")
    link.external_attr = 0o120777 << 16
    (tmp_path / "secret.skeleton").write_bytes(next(iter(samples("ntu")[0].files.values())))
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr(link, str(tmp_path / "secret.skeleton"))
    assert "a.skeleton" in refused("ntu", tmp_path / "evil.zip")


def test_what_is_no_file_is_passed_over(tmp_path):
    os.mkfifo(tmp_path / "a.skeleton")
    (tmp_path / "b.skeleton").symlink_to("/dev/zero")
    (tmp_path / "c.skeleton").symlink_to(tmp_path / "c.skeleton")
    (tmp_path / "deeper").symlink_to(tmp_path)
    samples("ntu")[0].write(tmp_path)
    found, unlisted = find_files([tmp_path], FORMATS["ntu"])
    assert [file.source.name for file in found] == ["S001C002P003R002A004"] and not unlisted


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/x", "a/b", "..", ".hidden", "a\\b", "C:x", "", "x" * 500, "a\0b", "a\nb"]
)
def test_a_file_that_is_named_after_a_clip_stays_in_its_folder(name, tmp_path):
    path = tmp_path / f"{file_name(name)}.png"
    path.touch()
    assert [file.name for file in tmp_path.iterdir()] == [path.name] and not path.name.startswith(".")


def test_a_store_cannot_lead_out_of_its_folder(tmp_path):
    (tmp_path / "secret").write_text("secret")
    store = samples("store")[0].write(tmp_path)
    meta = json.loads((store / "meta.json").read_text())
    meta["checksums"]["../secret"] = "0" * 64
    (store / "meta.json").write_text(json.dumps(meta))
    assert ClipStore.open(store).damaged_files() == ["../secret"]  # without looking for it


@pytest.mark.parametrize("call", ["object/apply:os.system [{}]", "object/new:os.system [{}]", "name:os.system"])
def test_a_layout_cannot_run_anything(call, tmp_path, refused):
    command = f"touch {shlex.quote(str(tmp_path / 'trace'))}"
    (tmp_path / "mine.yaml").write_text(f"name: !!python/{call.format(json.dumps(command))}\n")
    assert "could not determine a constructor" in refused("layout", tmp_path / "mine.yaml")
    assert not (tmp_path / "trace").exists()
