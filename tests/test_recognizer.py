import dataclasses

import numpy as np
import pytest
import torch

import last
from last.config import load_config
from last.data.batches import DeviceClips, Pipeline
from last.data.clean import CleanOptions, clean
from last.data.clip import Clip
from last.data.store import ClipStore
from last.data.store_writer import StoreWriter
from last.evaluate import predict
from last.recognizer import Recognizer, build_model, choose_device, describe, load_model
from last.setting_values import ConfigError
from last.skeleton import load_layout
from last.training.checkpoint import CheckpointError, save_weights

LAYOUT = load_layout("ntu")
CLASSES = ("wave", "kick", "sit")


@pytest.fixture
def weights(tmp_path):
    config = load_config(dataset="ntu60", overrides={"data.frames": 8})
    torch.manual_seed(0)
    path = tmp_path / "last.safetensors"
    save_weights(path, build_model(config, 3, LAYOUT), describe(config, CLASSES, LAYOUT))
    return path


@pytest.fixture
def joints():
    return np.random.default_rng(0).normal(0, 1, (12, 25, 3)).astype(np.float32)


def test_predict_names_the_classes_best_first(weights, joints):
    ranked = last.Recognizer(weights, device="cpu").predict(joints)
    assert {name for name, _ in ranked} == set(CLASSES)
    probabilities = [p for _, p in ranked]
    assert probabilities == sorted(probabilities, reverse=True)
    assert sum(probabilities) == pytest.approx(1, abs=1e-5)
    assert len(last.Recognizer(weights, device="cpu").predict(joints, top=1)) == 1


def test_a_run_folder_does_as_well_as_its_file(weights, joints):
    assert Recognizer(weights.parent, "cpu").predict(joints) == Recognizer(weights, "cpu").predict(joints)


def test_bodies_and_tensors_are_taken(weights, joints):
    recognizer = Recognizer(weights, "cpu")
    assert recognizer.predict(torch.from_numpy(joints)) == recognizer.predict(joints[:, None])
    two = np.stack([joints, joints + 0.3], axis=1)
    assert recognizer.predict(two) != recognizer.predict(joints)
    absent = two.copy()
    absent[:, 1] = np.nan
    assert recognizer.predict(absent) == recognizer.predict(joints)


def test_a_missing_joint_is_interpolated(weights, joints):
    smooth = np.repeat(joints[:1], 12, axis=0) + np.linspace(0, 1, 12, dtype=np.float32)[:, None, None]
    gap = smooth.copy()
    gap[4:6, 7] = np.nan
    recognizer = Recognizer(weights, "cpu")
    for (name, p), (other, q) in zip(recognizer.predict(smooth), recognizer.predict(gap), strict=True):
        assert name == other
        assert p == pytest.approx(q, abs=1e-4)


@pytest.mark.parametrize(
    ("model", "recipe"), [("efficientgcn_b0", "efficientgcn_ntu"), ("ctrgcn", "ctrgcn_ntu"), ("sgn", "sgn")]
)
def test_the_networks_of_others_are_built_again_for_their_input(model, recipe, joints, tmp_path):
    config = load_config(model, "ntu60", recipe)
    network = build_model(config, 3, LAYOUT).eval()
    save_weights(tmp_path / "last.safetensors", network, describe(config, CLASSES, LAYOUT))
    recognizer = Recognizer(tmp_path, "cpu")
    assert recognizer.pipeline == Pipeline.from_config(config.data, config.model, LAYOUT)
    assert len(recognizer.predict(joints)) == 3


def test_prediction_is_what_evaluation_computes(weights, joints, tmp_path):
    recognizer = Recognizer(weights, "cpu")
    with StoreWriter(tmp_path / "store", LAYOUT, CLASSES) as writer:
        writer.append(Clip(joints[:, None], "a", "ntu", label=0))
    stored = DeviceClips.from_store(ClipStore.open(tmp_path / "store"), np.array([0]), "cpu")
    evaluated = predict(recognizer.model, recognizer.pipeline, stored)[0]
    for name, probability in recognizer.predict(joints):
        assert probability == pytest.approx(evaluated[CLASSES.index(name)].item(), abs=1e-6)


def test_prediction_cleans_as_the_store_was_cleaned(joints, tmp_path):
    config = load_config(dataset="nw_ucla", overrides={"data.frames": 8})  # which takes one body
    network, options = build_model(config, 3, LAYOUT), CleanOptions(max_bodies=2)
    save_weights(
        tmp_path / "w.safetensors", network, describe(config, CLASSES, LAYOUT, cleaning=dataclasses.asdict(options))
    )
    recognizer = Recognizer(tmp_path / "w.safetensors", "cpu")
    # The network takes the first body alone, which is there for fewer frames than the second.
    brief, still = 2 * joints, np.repeat(joints[:1], 12, axis=0)
    brief[:6] = np.nan
    raw = Clip(np.stack([brief, still], axis=1), "a", "ntu", label=0)
    stored, _ = clean(raw, LAYOUT, options)
    assert stored is not None and stored.frames == 12
    evaluated = predict(recognizer.model, recognizer.pipeline, DeviceClips.from_clips([stored], "cpu"))
    assert np.allclose(recognizer.predict_clips([raw]), evaluated, atol=1e-6)
    # Files that do not say it go by their settings.
    save_weights(tmp_path / "w.safetensors", network, describe(config, CLASSES, LAYOUT))
    cleaned, _ = Recognizer(tmp_path / "w.safetensors", "cpu").clean(raw)
    assert (cleaned.frames, cleaned.bodies) == (6, 1)


def test_load_model_gives_the_network_ready_to_use(weights):
    model = last.load_model(weights)
    assert not model.training
    assert model.classifier.out_features == 3


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        ((12, 17, 3), "has 17 joints of 3 coordinates, but the network was trained on layout 'ntu' with 25 of 3"),
        ((12, 25, 2), "25 joints of 2 coordinates"),
        ((12, 75), r"joints have the shape \(12, 75\), expected"),
        ((0, 25, 3), "none of them zero"),
    ],
)
def test_joints_of_another_shape_are_told(weights, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        Recognizer(weights, "cpu").predict(np.ones(shape))


def test_a_clip_of_nothing_is_told(weights):
    with pytest.raises(ValueError, match="shows no joint"):
        Recognizer(weights, "cpu").predict(np.full((4, 25, 3), np.nan))


def test_no_weights_are_told(tmp_path):
    with pytest.raises(CheckpointError, match="no weights at"):
        Recognizer(tmp_path)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"layout": 5}, r"last\.safetensors says of itself what is of another type than 'last train' writes"),
        ({"classes": None}, "what is of another type .*NoneType"),
        ({"columns": [[1]]}, "what is of another type"),
        ({"rests_on": 5}, "what is of another type"),
        ({"rests_on": [["nw_ucla"]]}, "not enough values"),
        ({"cleaning": [1]}, "what is of another type"),
    ],
)
def test_a_description_of_other_types_is_told(weights, change, sentence):
    network, described = load_model(weights), describe(load_config(dataset="ntu60"), CLASSES, LAYOUT)
    save_weights(weights, network, described | change)
    with pytest.raises(CheckpointError, match=sentence):
        Recognizer(weights, "cpu")


def test_a_cleaning_that_cannot_be_is_told(weights):
    described = describe(load_config(dataset="ntu60"), CLASSES, LAYOUT, cleaning={"min_frames": "few"})
    save_weights(weights, load_model(weights), described)
    with pytest.raises(ConfigError, match=r"data\.min_frames in .*last\.safetensors is 'few', expected a whole number"):
        Recognizer(weights, "cpu")


def test_a_device_that_is_not_there_is_told():
    for name in ("nonsense", "mps", "meta"):
        with pytest.raises(ConfigError, match=f"^--device is {name}, expected auto, cpu, cuda or cuda:N$"):
            choose_device(name)
    with pytest.raises(ConfigError, match=r"--device cuda:x cannot be used here .*Invalid device string"):
        choose_device("cuda:x")
    if not torch.cuda.is_available():
        assert choose_device("auto").type == "cpu"
        with pytest.raises(ConfigError, match="--device cuda cannot be used here"):
            choose_device("cuda")
