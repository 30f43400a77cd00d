import csv
import importlib.util
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

import last
from last.cli import main
from last.config import from_dict, load_config
from last.data.formats import list_clips
from last.evaluate import Scores
from last.pretrained import find_pretrained, list_pretrained
from last.recognizer import Recognizer, describe, weights_file
from last.teachers import open_teachers
from last.training.checkpoint import CheckpointError, save_weights

ROOT = Path(__file__).resolve().parents[1]
NAMES = [
    "last_e_nano.nw_ucla", "last_e_nano.sbu", "last_e_nano.utd_mhad",
    "last_e_small.nw_ucla", "last_e_small.sbu", "last_e_small.utd_mhad",
]  # fmt: skip


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def script():
    spec = importlib.util.spec_from_file_location("pretrained_script", ROOT / "scripts" / "pretrained.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def published(script, tmp_path, monkeypatch):
    """The script on a folder of its own, which holds what the package does."""
    folder = tmp_path / "pretrained"
    shutil.copytree(ROOT / "src" / "last" / "pretrained", folder)
    for name, value in (("FOLDER", folder), ("INDEX", folder / "index.json")):
        monkeypatch.setattr(f"last.pretrained.{name}", value)
        monkeypatch.setattr(script, name, value)
    return folder


def write_run(folder, name):
    """The folder of a run that would give what the package holds under a name; scores made up to fit its top-1."""
    known = find_pretrained(name)
    result = json.loads((ROOT / "results" / known.record).read_text())
    classes = Recognizer(known.weights, "cpu").classes
    folder.mkdir()
    shutil.copyfile(known.weights, folder / "last.safetensors")
    (folder / "config.yaml").write_text(yaml.safe_dump(from_dict(result["config"], "a result").to_dict()))
    (folder / "result.json").write_text(json.dumps(result))
    with (folder / "metrics.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["epoch"], *([epoch] for epoch in range(1, result["epochs"] + 1))])
    right = np.array([answer == "1" for answer in result["correct"]])
    probabilities = np.eye(len(classes), dtype=np.float32)[np.where(right, 0, 1)]
    names = np.array([f"clip{i}".encode() for i in range(len(right))])
    Scores(names, np.zeros(len(right), dtype=np.int64), probabilities, classes).save(folder / "scores.npz")
    return folder


def content_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_the_package_holds_small_networks_for_three_sets():
    known = {known.name: known for known in list_pretrained()}
    assert set(NAMES) <= set(known)
    for name in NAMES:  # four bytes a parameter, and little else
        assert known[name].weights.stat().st_size < 5 * known[name].parameters


@pytest.mark.parametrize("name", ["last_e_nano.nw_ucla", "nano_e.nw_ucla", "nano-e.nw-ucla"])
def test_names_and_aliases_give_the_same_network(name):
    assert find_pretrained(name).name == "last_e_nano.nw_ucla"
    assert weights_file(Path(name)) == find_pretrained(name).weights
    model = last.load_model(name)
    assert not model.training
    assert model.classifier.out_features == 10


def test_it_teaches_by_its_name():
    config = load_config(dataset="nw_ucla", overrides={"training.teachers": ["nano_e.nw_ucla"]})
    known = find_pretrained("nano_e.nw_ucla")
    recognizer = Recognizer(known.weights, "cpu")
    (teacher,) = open_teachers(config, recognizer.classes, recognizer.layout, torch.device("cpu"))
    assert teacher.record["path"] == "nano_e.nw_ucla"
    assert teacher.record["sha256"] == known.sha256


def test_a_path_that_exists_wins_over_a_name(tmp_path):
    folder = tmp_path / "last_e_nano.nw_ucla"
    folder.mkdir()
    with pytest.raises(CheckpointError, match=r"no weights at last_e_nano\.nw_ucla.last\.safetensors"):
        weights_file(Path("last_e_nano.nw_ucla"))
    shutil.copyfile(find_pretrained("last_e_nano.sbu").weights, folder / "last.safetensors")
    assert len(last.Recognizer("last_e_nano.nw_ucla", "cpu").classes) == 8


def test_an_unknown_name_is_told_the_nearest_and_all():
    with pytest.raises(CheckpointError, match=r"did you mean 'last_e_nano\.nw_ucla'\?.*last_e_nano\.utd_mhad"):
        weights_file(Path("nano_e.nw_ulca"))
    with pytest.raises(CheckpointError, match="no weights at qqq: there is no such file or folder here") as told:
        weights_file(Path("qqq"))
    assert "did you mean" not in str(told.value)


@pytest.mark.parametrize("path", ["runs/last_e_nano.nw_ucla", "last_e_nano.safetensors"])
def test_what_can_only_be_a_path_is_not_taken_for_a_name(path):
    with pytest.raises(CheckpointError, match="give the folder of a finished run") as told:
        weights_file(Path(path))
    assert "pretrained network" not in str(told.value)


def test_models_lists_them_with_their_scores(capsys):
    assert main(["models", "--pretrained"]) == 0
    rows = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(NAMES) < set(rows)
    assert "(5 folds)" in rows["last_e_nano.sbu"]
    assert main(["models", "nano-e", "--pretrained", "--json"]) == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(listed) == [name for name in NAMES if "nano" in name]
    for name in listed:
        result = json.loads((ROOT / "results" / listed[name]["record"]).read_text())
        assert (listed[name]["top1"], listed[name]["parameters"]) == (result["top1"], result["parameters"])
    assert main(["models", "base", "--pretrained", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_index_and_cards_are_those_of_results_and_weights(script, capsys):
    assert script.main(["--check"]) == 0, capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_cards_name_what_the_weights_hold(name):
    known, text = find_pretrained(name), find_pretrained(name).card.read_text()
    recognizer = Recognizer(known.weights, "cpu")
    assert f"| classes | {', '.join(recognizer.classes)} |" in text
    assert f"| joints, in this order | {', '.join(recognizer.layout.joints)} |" in text
    parameters = sum(parameter.numel() for parameter in recognizer.model.parameters())
    assert f"{parameters:,} parameters" in text
    assert f"| top-1 | {known.top1:.1f} |" in text


def test_a_finished_run_is_published_in_place_of_the_old(script, published, tmp_path, capsys):
    run = write_run(tmp_path / "run", NAMES[0])
    for path in published.glob("last_e_nano.nw_ucla*"):
        path.unlink()
    (published / "index.json").write_text("[]")
    assert script.main([str(run)]) == 1
    assert "last_e_nano.sbu" in capsys.readouterr().err  # what the index does not name
    assert [known.name for known in list_pretrained()] == NAMES[:1]
    packaged = ROOT / "src" / "last" / "pretrained"
    for suffix in ("md", "safetensors"):
        ours, theirs = (folder / f"{NAMES[0]}.{suffix}" for folder in (published, packaged))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(
    ("file", "value", "sentence"),
    [
        ("result.json", {"seed": 1}, "its seed is 1, expected 0"),
        ("result.json", {"kind": "published"}, "not of a training of ours"),
        ("result.json", {"weights": "best"}, "not that of the last epoch"),
        ("result.json", {"seconds": 1.0}, "its result is not the one in"),
        ("result.json", {"protocol": "fold2"}, "its protocol is fold2, expected fold1"),
        ("config.yaml", {"training": {"epochs": 9999}}, "of its 9999 epochs"),
        ("config.yaml", {"data": {"frames": 9}}, "its weights are of other settings than it says"),
    ],
)
def test_other_runs_are_refused_and_nothing_is_written(script, published, tmp_path, capsys, file, value, sentence):
    run = write_run(tmp_path / "run", "last_e_nano.sbu")
    content = yaml.safe_load((run / file).read_text())  # JSON is YAML
    for key, changed in value.items():
        content[key] = content[key] | changed if isinstance(changed, dict) else changed
    (run / file).write_text(json.dumps(content))
    before = content_of(published)
    assert script.main([str(run)]) == 1
    assert sentence in capsys.readouterr().err
    assert content_of(published) == before


def test_weights_that_are_not_float32_are_refused(script, published, tmp_path, capsys):
    run = write_run(tmp_path / "run", "last_e_nano.sbu")
    recognizer = Recognizer(run, "cpu")
    described = describe(recognizer.config, recognizer.classes, recognizer.layout)
    save_weights(run / "last.safetensors", recognizer.model.half(), described)
    assert script.main([str(run)]) == 1
    assert "not in float32" in capsys.readouterr().err


def test_a_check_finds_changed_weights_and_cards(script, published, capsys):
    card = published / "last_e_nano.sbu.md"
    card.write_text(card.read_text() + "It is always right.\n")
    assert script.main(["--check"]) == 1
    assert "last_e_nano.sbu.md" in capsys.readouterr().err
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    weights = published / "last_e_nano.sbu.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert script.main(["--check"]) == 1
    assert "index.json" in capsys.readouterr().err


def test_real_clips_of_an_unseen_view_are_recognised(shared_data):
    listed = list_clips(shared_data / "nw_ucla_all_sqe.zip")
    views = [(known, source) for known, source in listed if source.name.endswith("v03")]
    recognizer = last.Recognizer("last_e_nano.nw_ucla", "cpu")
    clips = [known.read(source) for known, source in views[::23]]
    best = recognizer.predict_clips(clips).argmax(1)
    labels = [clip.label for clip in clips]
    assert len(clips) == 21
    assert len(set(labels)) >= 8
    assert (best == labels).sum() >= 17
