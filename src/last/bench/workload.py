"""One thing to time: a network under a runtime, at work on clips in memory, as it works in use.

Shapes: N batch, T frames, V joints, M bodies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from last.config import Config, load_config
from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline
from last.data.clip import Clip
from last.models import Network
from last.recognizer import build_model
from last.skeleton import Layout
from last.training.loop import Trainer

Phase = Literal["infer", "train"]


@dataclass(frozen=True)
class Case:
    """What is timed, and on what.

    Attributes:
        model: registered name.
        runtime: one of :data:`RUNTIMES`.
        device: such as ``cpu``.
        threads: of PyTorch on the CPU.
        batch: clips a call, N.
        phase: the network alone on streams that are made, or the whole step of a training.
        layout: the skeleton.
        frames: T.
        bodies: M, all of them present.
        classes: size of the output.
    """

    model: str
    runtime: str
    device: str
    threads: int
    batch: int
    phase: Phase
    layout: Layout
    frames: int = 64
    bodies: int = 1
    classes: int = 60


@dataclass(frozen=True)
class Runtime:
    """A way to run a network.

    Attributes:
        start: makes it ready; what it returns is called as the network is.
        trains: whether ``start`` changes the network itself, so that a training can use it.
        fault: why this machine does not have it, in a sentence, or None where it does.
        compiles: whether the first call needs memory of its own for that.
    """

    start: Callable[[Network], Callable[..., Tensor]]
    trains: bool
    fault: Callable[[torch.device], str | None]
    compiles: bool = False


def _compiled(model: Network) -> Network:
    # PyTorch gives up on compiling after eight networks, silently, since it takes them for forms of one function.
    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        setattr(torch._dynamo.config, limit, 10_000)
    model.compile(dynamic=False)
    return model


def _compiler_fault(device: torch.device) -> str | None:
    try:
        torch.compile(torch.neg, dynamic=False)(torch.ones(2, device=device))
    except Exception as error:  # compilers fail in as many ways as there are compilers
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return f"torch.compile does not work here, and 'compiled' is left out; it needs a C++ compiler ({reason})"
    return None


RUNTIMES = {
    "eager": Runtime(lambda model: model, trains=True, fault=lambda device: None),
    "compiled": Runtime(_compiled, trains=True, fault=_compiler_fault, compiles=True),
}


def prepare(case: Case) -> Callable[[], None]:
    """Build all that a case needs; each call of the result does its work once, to the end.

    A training step is that of `last train`: sampling, augmentation, streams, forward, backward, clipping, optimiser,
    moving average.

    Raises:
        ValueError: the network does not suit the layout.
        RuntimeError: the device's memory is not enough.
    """
    device = torch.device(case.device)
    config = _config(case)
    torch.manual_seed(0)
    model = build_model(config, case.classes, case.layout).to(device)
    clips = DeviceClips.from_clips(_clips(case), device)
    pipeline = Pipeline.from_config(config.data, config.model, case.layout, Augmentation.from_config(config.training))
    index = torch.arange(case.batch, device=device)
    runtime = RUNTIMES[case.runtime]
    if case.phase == "train":
        runtime.start(model)
        trainer = Trainer(model, pipeline, clips, config.training, device)
        model.train()

        def work() -> None:
            trainer.step(index)
            _finish(device)
    else:
        call = runtime.start(model.eval())
        streams, mask = pipeline.evaluate(clips, index)

        @torch.inference_mode()
        def work() -> None:
            call(streams, mask)
            _finish(device)

    return work


def _config(case: Case) -> Config:
    sizes = {"data.frames": case.frames, "data.max_bodies": case.bodies, "training.batch_size": case.batch}
    recipe = "few_clips" if case.layout.dimensions == 3 else "pixels"
    return load_config(case.model, recipe=recipe, environment="local", overrides=sizes)


def _clips(case: Case) -> list[Clip]:
    """Bodies that stand and tremble: what they do changes no time."""
    rng = np.random.default_rng(0)
    shape = (case.frames, case.bodies, len(case.layout.joints), case.layout.dimensions)
    rest = rng.normal(size=(case.batch, 1, *shape[1:]))
    joints = (rest + 0.01 * rng.normal(size=(case.batch, *shape))).astype(np.float32)
    return [Clip(x, f"clip{i}", case.layout.name, i % case.classes) for i, x in enumerate(joints)]


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
