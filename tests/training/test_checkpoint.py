import errno
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from last.files import WriteError, write_text
from last.training.checkpoint import (
    CheckpointError,
    load_weights,
    read_checkpoint,
    read_weights,
    save_checkpoint,
    save_weights,
)


def network(classes=2):
    return nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1), "classifier": nn.Linear(4, classes)})


def test_weights_come_back_with_their_description(tmp_path):
    model = network()
    save_weights(tmp_path / "w.safetensors", model, {"classes": ["a", "ü"]})
    tensors, description = read_weights(tmp_path / "w.safetensors")
    assert description == {"classes": ["a", "ü"]}
    other = network()
    load_weights(other, tensors, "w")
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_weights_for_other_classes_or_another_network_are_refused():
    with pytest.raises(CheckpointError, match=r"another number of classes: 'classifier.weight' has the shape \(2, 4\)"):
        load_weights(network(3), network(2).state_dict(), "w")
    with pytest.raises(CheckpointError, match=r"it lacks 2 of the tensors \(conv.bias, conv.weight\)"):
        load_weights(network(), {k: v for k, v in network().state_dict().items() if "conv" not in k}, "w")


def test_files_that_are_no_weights_are_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    with pytest.raises(CheckpointError, match="cannot read the weights"):
        read_weights(path)
    path.write_bytes(b"\xff" * 100)  # a header that promises 2^64 bytes
    with pytest.raises(CheckpointError, match="cannot read the weights"):
        read_weights(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="is not of the format"):
        read_weights(path)


def test_a_checkpoint_runs_no_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "owned"),)

    (tmp_path / "raw.pt").write_bytes(pickle.dumps(Evil()))
    torch.save({"progress": Evil()}, tmp_path / "zip.pt")
    for name in ("raw.pt", "zip.pt"):
        with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
            read_checkpoint(tmp_path / name)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("writer", ["text", "weights", "checkpoint"])
def test_a_full_disk_leaves_the_old_file_whole(tmp_path, monkeypatch, writer):
    path = tmp_path / "file"
    write = {
        "text": lambda: write_text(path, "new"),
        "weights": lambda: save_weights(path, network(), {}),
        "checkpoint": lambda: save_checkpoint(path, {"x": torch.zeros(2)}),
    }[writer]
    path.write_text("old")

    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WriteError, match=r"No space left on device; the file that was there is unchanged"):
        write()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match="cannot write"):
        write_text(tmp_path / "file" / "x.txt", "new")
