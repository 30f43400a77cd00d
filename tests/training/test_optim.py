import pytest
import torch
from torch import nn

import last
from last.settings import TrainingConfig
from last.training.optim import (
    MovingAverage,
    average_weight,
    build_optimizer,
    decayed_names,
    learning_rate,
    warmup_epochs,
)


@pytest.mark.parametrize("name", last.list_models())
def test_only_convolutions_and_linear_layers_decay(name):
    # By kind of module, not by a part of the name: 'norm', 'alpha' and 'bias' occur in names of what should decay.
    model = last.create_model(name)
    decayed = decayed_names(model)
    for parameter, value in model.named_parameters():
        expected = parameter.endswith(".weight") and value.dim() >= 2
        assert (parameter in decayed) == expected, parameter
    optimizer = build_optimizer(model, TrainingConfig(weight_decay=4e-4))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [4e-4, 0.0]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_a_convolution_whose_name_holds_norm_still_decays():
    model = nn.ModuleDict({"norm_conv": nn.Conv2d(1, 1, 1), "plain": nn.BatchNorm2d(1)})
    assert decayed_names(model) == {"norm_conv.weight"}


def test_every_parameter_decays_on_request():
    model = nn.Sequential(nn.Linear(1, 1), nn.BatchNorm1d(1))
    decayed, rest = build_optimizer(model, TrainingConfig(decayed="all", weight_decay=4e-4)).param_groups
    assert len(decayed["params"]) == 4 and not rest["params"]
    assert decayed["weight_decay"] == 4e-4


def rates(**settings):
    """The learning rate before each step of a training of one step an epoch, and after the last."""
    config = TrainingConfig(**settings)
    return [learning_rate(config, 1, step) for step in range(config.epochs + 1)]


def test_the_schedule_warms_up_then_follows_a_cosine():
    values = rates(lr=0.01, warmup_lr=0.001, min_lr=0.0001, warmup_epochs=10, epochs=70)
    assert values[0] == pytest.approx(0.001)
    assert values[5] == pytest.approx(0.0055)
    assert values[10] == pytest.approx(0.01)
    assert values[40] == pytest.approx((0.01 + 0.0001) / 2)
    assert values[70] == pytest.approx(0.0001)
    assert values[10:] == sorted(values[10:], reverse=True)


def test_a_schedule_without_warm_up_starts_at_its_peak():
    assert rates(lr=0.01, min_lr=0.0, warmup_epochs=0, epochs=10)[0] == pytest.approx(0.01)


def test_the_warm_up_takes_half_of_a_short_training_at_most():
    config = TrainingConfig(lr=0.01, warmup_lr=0.001, warmup_epochs=10, epochs=6)
    assert warmup_epochs(config) == 3
    assert rates(lr=0.01, warmup_lr=0.001, warmup_epochs=10, epochs=6)[3] == pytest.approx(0.01)


@pytest.mark.parametrize("warmup", [0, 2])
def test_the_rate_falls_in_steps_counted_from_the_first_epoch(warmup):
    values = rates(
        lr=1.0, warmup_lr=0.5, warmup_epochs=warmup, epochs=8, schedule="steps", milestones=[4, 6], step_factor=0.1
    )
    assert values[0] == pytest.approx(0.5 if warmup else 1.0)
    assert values[2:8] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_adam_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    optimizer = build_optimizer(model, TrainingConfig(optimizer="adam", lr=0.1, weight_decay=0.5))
    model.weight.grad = model.weight.new_full((1, 1), -3.0)
    optimizer.step()
    # The first step of Adam has the size of the learning rate, against the gradient's sign: -3 + 0.5 * 1 < 0.
    assert model.weight.item() == pytest.approx(1.1)


def test_ema_by_hand():
    model = nn.BatchNorm1d(1)
    ema = MovingAverage(model)
    expected = None
    for step, value in enumerate((1.0, 2.0, 4.0)):
        nn.init.constant_(model.weight, value)
        model.running_mean.fill_(10 * value)
        model.num_batches_tracked.fill_(step)
        ema.update(torch.tensor(average_weight(0.5, step)))
        decay = min(0.5, (1 + step) / (10 + step))
        expected = value if expected is None else decay * expected + (1 - decay) * value
    assert ema.module.weight.item() == pytest.approx(expected)
    assert ema.module.running_mean.item() == pytest.approx(10 * expected)
    assert ema.module.num_batches_tracked == 2
    assert model.weight.item() == 4


def test_the_average_leaves_what_does_not_change_as_it_is():
    model = nn.Linear(3, 3)
    ema = MovingAverage(model)
    for step in range(50):
        ema.update(average_weight(0.9, step))
    assert torch.equal(ema.module.weight, model.weight)


def test_a_first_step_that_overflows_leaves_no_trace():
    # What loss scaling does in float16: a step whose gradients overflowed is left out by the optimiser's own kernel.
    def moved(overflow):
        torch.manual_seed(0)
        model = nn.Linear(64, 64)
        before = model.weight.detach().clone()
        optimizer = build_optimizer(model, TrainingConfig(lr=0.1, weight_decay=0.0))
        for found in ([1.0] if overflow else []) + [0.0]:
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, torch.inf if found else 1.0)
            optimizer.grad_scale, optimizer.found_inf = torch.ones(()), torch.tensor(found)
            optimizer.step()
        return model.weight.detach() - before

    assert torch.equal(moved(overflow=True), moved(overflow=False))
    assert moved(overflow=False).mean().item() == pytest.approx(-0.1 * 1.9)  # Nesterov: 1 + 0.9 times the gradient
