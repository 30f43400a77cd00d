"""The step as one unit: the same run from static buffers, after a failed recording, and on a GPU as a graph."""

import gc
import math
import threading
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

import last
from last.config import load_config
from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline
from last.data.feed import Resident
from last.progress import Interrupted, Reporter
from last.settings import TrainingConfig
from last.training import captured as captured_module
from last.training.captured import WARM_UP, CapturedStep, why_eager
from last.training.loop import Trainer, TrainingError
from last.training.optim import average_weight, learning_rate
from last.training.randomness import drawing_from
from last.training.step import Step
from last.workflow import begin, train
from tiny_clips import make_clips

RECIPE = TrainingConfig(
    epochs=5, batch_size=4, lr=0.05, warmup_epochs=1, ema=0.9, seed=3, rotation=(20.0, 20.0, 20.0), noise=0.01,
    flip_sides=0.5, jitter=True, crop=(0.5, 1.0),
)  # fmt: skip
MIXED = {
    "warp": 0.4, "limbs": 0.2, "hide_joints": 0.1, "hide_limb": 0.5, "hide_frames": 0.3, "mix": 0.5,
    "class_weights": "balanced",
}  # fmt: skip
FIRST = {"model": SimpleNamespace(bodies="first")}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


@pytest.fixture
def fourteen(stick):
    """Clips for three steps of four and one of two an epoch."""
    return DeviceClips.from_clips(make_clips(stick, 14), "cpu")


def network(layout, config, dropout=0.3):
    torch.manual_seed(config.seed)
    return last.create_model("last_e_nano", 2, layout, dropout=dropout)


def make_step(layout, config=RECIPE):
    pipeline = Pipeline(layout, frames=8, augmentation=Augmentation.from_config(config))
    return Step(network(layout, config).train(), pipeline, config, steps_per_epoch=4, micro_batch=4)


def run(step, unit, clips, epochs):
    """Take the steps of some epochs; the learning rates, and the state at the end."""
    torch.manual_seed(7)
    rates = []
    for epoch in range(epochs):
        unit.begin(epoch)
        order = torch.randperm(14, generator=torch.Generator().manual_seed(epoch))
        for places in order.split(4):
            step(clips, places)
            rates.append(unit.optimizer.param_groups[0]["lr"].item())
    return rates, unit.state_dict()


def flat(state):
    """All tensors of a state, by their path."""
    if isinstance(state, torch.Tensor):
        return {"": state}
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list | tuple) else ()
    return {f"{key}.{path}": tensor for key, value in items for path, tensor in flat(value).items()}


def assert_same(state, other, **tolerance):
    state, other = flat(state), flat(other)
    assert state.keys() == other.keys()
    for name, tensor in state.items():
        torch.testing.assert_close({name: tensor}, {name: other[name]}, **(tolerance or {"atol": 0, "rtol": 0}))


def test_the_tables_on_the_device_are_those_of_the_recipe(stick, fourteen):
    unit = make_step(stick)
    rates, _ = run(unit, unit, fourteen, 2)
    assert rates == pytest.approx([learning_rate(RECIPE, 4, step) for step in range(8)], rel=1e-6)


def test_the_moving_average_follows_the_network(stick, fourteen):
    unit = make_step(stick)
    expected = None

    def take(clips, places):
        nonlocal expected
        step = take.count
        unit(clips, places)
        value = unit.model.classifier.weight.detach().double()
        weight = average_weight(RECIPE.ema, step)
        expected = value.clone() if expected is None else (1 - weight) * expected + weight * value
        take.count += 1

    take.count = 0
    run(take, unit, fourteen, 2)
    torch.testing.assert_close(unit.average.module.classifier.weight.double(), expected, atol=1e-6, rtol=1e-5)


def test_the_device_keeps_what_the_host_asks_for_later(stick, fourteen):
    unit, once = make_step(stick), make_step(stick)
    torch.manual_seed(7)
    unit.begin(0)
    for places in torch.arange(14).split(4):
        unit(fourteen, places)
    losses, (total, correct, *taken) = unit.read(1, 4)
    torch.manual_seed(7)
    once.begin(0)
    expected = []
    for step, places in enumerate(torch.arange(14).split(4)):
        once(fourteen, places)
        expected += once.read(step, step + 1)[0]
    assert losses == expected[1:]
    assert total == pytest.approx(sum(4 * loss for loss in expected[:3]) + 2 * expected[3])
    assert correct == int(correct) and 0 <= correct <= 14
    assert len(taken) == 2 and sum(taken) == 14


def test_stepping_from_static_buffers_changes_nothing(stick, fourteen):
    config = replace(RECIPE, **MIXED)
    plain, unit = make_step(stick, config), make_step(stick, config)
    recorded = []

    def record(work, generator):
        # What stands in for a graph: the very work, on the very tensors.
        assert generator is unit.generator
        recorded.append(work)
        return work

    captured = CapturedStep(unit, 4, record)
    assert_same(run(plain, plain, fourteen, 4)[1], run(captured, unit, fourteen, 4)[1])
    assert len(recorded) == 2  # one for each size
    assert captured.fault is None


def test_the_first_steps_run_as_they_are_and_are_recorded_once_for_each_size_and_clips(stick, fourteen):
    unit = make_step(stick)
    replays = []
    captured = CapturedStep(unit, 4, lambda work, generator: lambda: replays.append(work))
    for _ in range(WARM_UP):
        captured(fourteen, torch.arange(4))
    assert not replays
    for _ in range(2):
        captured(fourteen, torch.arange(4))
    captured(replace(fourteen), torch.arange(4))
    captured(fourteen, torch.arange(2))
    assert len(replays) == 3 and len(set(map(id, replays))) == 2


def test_only_the_first_steps_keep_the_trainings_beside_waiting(stick, fourteen, monkeypatch):
    held = []
    monkeypatch.setattr(Step, "__call__", lambda self, clips, places: held.append(captured_module._WARMING.locked()))
    captured = CapturedStep(make_step(stick), 4, lambda work, generator: work)
    for _ in range(WARM_UP + 2):
        captured(fourteen, torch.arange(4))
    assert held == [True] * WARM_UP + [False] * 2
    captured.fault = "it cannot be recorded"
    captured(fourteen, torch.arange(3))
    assert held[-1] is False


def test_training_goes_on_where_recording_fails(stick, fourteen):
    plain, unit = make_step(stick), make_step(stick)

    def record(work, generator):
        torch.rand(5, generator=generator)
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nand advice")
        finally:
            raise RuntimeError("the end of it fails too")

    captured = CapturedStep(unit, 4, record)
    assert_same(run(plain, plain, fourteen, 4)[1], run(captured, unit, fourteen, 4)[1])
    assert captured.fault == "operation not permitted when stream is capturing"


def test_adam_is_made_ready_to_be_recorded_and_runs_otherwise_as_it_is(stick, fourteen):
    unit = make_step(stick, replace(RECIPE, optimizer="adam", lr=0.001))
    seen = []

    def record(work, generator):
        seen.append([group["capturable"] for group in unit.optimizer.param_groups])
        return work

    run(CapturedStep(unit, 4, record), unit, fourteen, 4)
    assert seen == [[True, True]] * 2
    assert not any(group["capturable"] for group in unit.optimizer.param_groups)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"device": torch.device("cpu")}, "CUDA graphs need a GPU, and the device is cpu"),
        ({"scaler": SimpleNamespace(is_enabled=lambda: True)}, "float16 with loss scaling has not been tried"),
        ({"most": 2}, "clips have 1 to 2 bodies"),
        ({"most": 2, "fewest": 2}, None),
        ({"most": 2, **FIRST}, None),
        ({"most": 2, "pipeline": SimpleNamespace(max_bodies=1)}, None),
        ({"most": 2, **FIRST, "distillation": SimpleNamespace(asked=[SimpleNamespace(bodies="mean")])}, "clips have"),
        ({"most": 2, **FIRST, "distillation": SimpleNamespace(asked=())}, None),
    ],
)
def test_what_cannot_be_captured_is_known_before(change, reason):
    parts = {
        "device": torch.device("cuda"), "scaler": SimpleNamespace(is_enabled=lambda: False),
        "model": SimpleNamespace(bodies="mean"), "pipeline": SimpleNamespace(max_bodies=2), "most": 1, "fewest": 1,
        "distillation": None,
    }  # fmt: skip
    parts |= change
    feed = SimpleNamespace(most_bodies=parts["most"], fewest_bodies=parts["fewest"])
    found = why_eager(SimpleNamespace(**parts), feed)
    assert (found is None) if reason is None else found.startswith(reason)


def test_the_setting_decides_and_is_told(stick, fourteen, ucla_like, tmp_path):
    def trainer(mode):
        pipeline = Pipeline(stick, frames=8)
        return Trainer(network(stick, RECIPE), pipeline, Resident(fourteen), RECIPE, step=mode)

    assert trainer("eager").note == "steps are not captured, since environment.step is eager"
    assert "CUDA graphs need a GPU" in trainer("auto").note
    with pytest.raises(TrainingError, match="a step cannot be captured here, since CUDA graphs need a GPU"):
        trainer("graph")
    given = {"data.path": str(ucla_like.path), "data.frames": 8, "environment.step": "graph"}
    config = load_config(dataset="nw_ucla", environment="local", overrides=given)
    started = begin(config, str(tmp_path / "run"), torch.device("cpu"), "last train")
    with pytest.raises(TrainingError, match=r"environment\.step is graph"):
        train(started, False, torch.device("cpu"), Reporter(quiet=True))


def test_a_gpu_draws_from_the_trainings_own_generator_for_as_long_as_it_steps(monkeypatch):
    own = SimpleNamespace(state="the process's")
    own.graphsafe_get_state = lambda: own.state
    own.graphsafe_set_state = lambda state: setattr(own, "state", state)
    monkeypatch.setattr(torch.cuda, "default_generators", (None, own))
    mine = SimpleNamespace(device=torch.device("cuda:1"))
    with pytest.raises(KeyError), drawing_from(mine):
        assert own.state is mine
        raise KeyError
    assert own.state == "the process's"


def on_gpu(layout, mode, count=14, bodies=1, dropout=0.3, config=RECIPE, clips=None):
    """A trainer on the GPU."""
    device = torch.device("cuda", 0)
    clips = clips or DeviceClips.from_clips(make_clips(layout, count, bodies=bodies), device)
    pipeline = Pipeline(layout, frames=8, augmentation=Augmentation.from_config(config))
    model = network(layout, config, dropout).to(device)
    return Trainer(model, pipeline, Resident(clips), config, clip_name=lambda i: f"clip{i:02d}", step=mode)


@needs_gpu
@pytest.mark.parametrize("recipe", [{}, {"optimizer": "adam", "lr": 0.001}, {"accumulate": 2}, {"amp": True}, MIXED])
def test_on_a_gpu_a_captured_training_equals_an_eager_one(stick, tmp_path, recipe):
    states = []
    for mode in ("eager", "graph"):
        trainer = on_gpu(stick, mode, config=replace(RECIPE, **recipe))
        trainer.fit(tmp_path / "c.pt", lambda row: None)
        assert (trainer.note == "each step is one CUDA graph") == (mode == "graph")
        states.append(trainer.unit.state_dict())
    # Dropout and augmentation draw the same numbers.
    assert_same(*states, atol=1e-3, rtol=1e-3)


@needs_gpu
def test_on_a_gpu_a_resumed_training_equals_an_uninterrupted_one(stick, tmp_path):
    whole = on_gpu(stick, "graph")
    whole.fit(tmp_path / "whole.pt", lambda row: None)
    done = []
    with pytest.raises(Interrupted):
        on_gpu(stick, "graph").fit(tmp_path / "c.pt", lambda row: None, done.append, stop=lambda: done[-1] >= 14)
    resumed = on_gpu(stick, "graph")
    resumed.load(tmp_path / "c.pt")
    resumed.fit(tmp_path / "c.pt", lambda row: None)
    assert_same(whole.unit.state_dict(), resumed.unit.state_dict(), atol=1e-3, rtol=1e-3)


@needs_gpu
def test_on_a_gpu_a_question_of_the_hosts_ends_the_recording_and_not_the_training(stick, tmp_path):
    class Curious(torch.nn.Linear):
        def forward(self, x):
            x.sum().item()
            return super().forward(x)

    trainer = on_gpu(stick, "auto")
    trainer.model.classifier.__class__ = Curious
    trainer.fit(tmp_path / "c.pt", lambda row: None)
    assert trainer.note.startswith("steps are not captured, since ")
    eager = on_gpu(stick, "eager")
    eager.fit(tmp_path / "c.pt", lambda row: None)
    assert_same(trainer.unit.state_dict(), eager.unit.state_dict(), atol=1e-3, rtol=1e-3)


@needs_gpu
def test_on_a_gpu_two_bodies_are_captured_where_all_clips_have_them(stick, tmp_path):
    states = []
    for mode in ("eager", "graph"):
        trainer = on_gpu(stick, mode, bodies=2)
        trainer.fit(tmp_path / "c.pt", lambda row: None)
        states.append(trainer.unit.state_dict())
    assert trainer.note == "each step is one CUDA graph"
    assert_same(*states, atol=1e-3, rtol=1e-3)


@needs_gpu
def test_on_a_gpu_unequal_numbers_of_bodies_are_trained_without_a_graph(stick, tmp_path):
    clips = DeviceClips.from_clips([*make_clips(stick, 13, bodies=2), *make_clips(stick, 1)], "cuda:0")
    trainer = on_gpu(stick, "auto", clips=clips)
    assert "clips have 1 to 2 bodies" in trainer.note
    trainer.fit(tmp_path / "c.pt", lambda row: None)
    with pytest.raises(TrainingError, match="clips have 1 to 2 bodies"):
        on_gpu(stick, "graph", clips=clips)


@needs_gpu
def test_on_a_gpu_a_loss_that_is_not_finite_is_reported_with_its_clips(stick, tmp_path):
    clips = DeviceClips.from_clips(make_clips(stick, 14), "cuda:0")
    clips.rows[: int(clips.frames[0])] = math.inf  # whichever frames are drawn
    with pytest.raises(TrainingError, match=r"not finite in epoch 1, step \d, on the clips .*clip00"):
        on_gpu(stick, "graph", clips=clips).fit(tmp_path / "c.pt", lambda row: None)


@needs_gpu
def test_on_a_gpu_each_training_has_a_stream_of_its_own_and_leaves_it_behind(stick):
    trainers = [on_gpu(stick, "eager") for _ in range(3)]
    assert len({trainer._stream.cuda_stream for trainer in trainers}) == 3
    for _ in range(40):  # more than there are streams
        on_gpu(stick, "eager")
        gc.collect()


@needs_gpu
def test_on_a_gpu_trainings_side_by_side_draw_what_they_draw_alone(stick, tmp_path):
    alone = on_gpu(stick, "graph")
    alone.fit(tmp_path / "c.pt", lambda row: None)
    beside = [on_gpu(stick, "graph", config=replace(RECIPE, seed=seed)) for seed in (3, 4, 5)]
    threads = [
        threading.Thread(target=trainer.fit, args=(tmp_path / f"{i}.pt", lambda row: None))
        for i, trainer in enumerate(beside)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [trainer.note for trainer in beside] == ["each step is one CUDA graph"] * 3
    assert_same(alone.unit.state_dict(), beside[0].unit.state_dict(), atol=1e-3, rtol=1e-3)
