"""One thing to time: a network under a runtime, at work on clips in memory, as it works in use.

Shapes: N batch, T frames, V joints, M bodies.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Literal

import numpy as np
import torch

from last.config import load_config
from last.data.augment import Augmentation
from last.data.batches import DeviceClips, Pipeline
from last.data.clip import Clip
from last.data.feed import Resident
from last.kernels import accelerate, kernel_fault
from last.models import Network
from last.recognizer import build_model
from last.settings import Config, KernelMode, StepMode, Structure
from last.skeleton import Layout
from last.training.loop import Trainer
from last.training.precision import Precision

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
        structure: of LAST-E in training, as ``training.structure`` has it.
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
    structure: Structure = "plain"


@dataclass(frozen=True)
class Runtime:
    """A way to run a network.

    Attributes:
        kernels: of :func:`last.kernels.accelerate`.
        step: of a training; a captured one has no other use.
        half: mixed precision, as ``--amp`` asks for.
        compiles: by torch.compile, whose first call takes long, and memory of its own.
    """

    kernels: KernelMode = "plain"
    step: StepMode = "eager"
    half: bool = False
    compiles: bool = False

    def fault(self, model: str, device: torch.device) -> str | None:
        """Why a network cannot be run so on a device, in a sentence, or None where it can."""
        if device.type != "cuda" and (self.half or self.step == "graph"):
            return f"{'mixed precision' if self.half else 'a captured step'} needs a GPU, and the device is {device}"
        if self.compiles:
            return _compiler_fault(device)
        return None if self.kernels == "plain" else kernel_fault(model, device)


@cache
def _compiler_fault(device: torch.device) -> str | None:
    try:
        torch.compile(torch.neg, dynamic=False)(torch.ones(2, device=device))
    except Exception as error:  # compilers fail in as many ways as there are compilers
        reason = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        return f"torch.compile does not work here; it needs a C++ compiler ({reason})"
    return None


RUNTIMES = {
    "eager": Runtime(),
    "fused": Runtime(kernels="fused"),
    "compiled": Runtime(compiles=True),
    "compiled_half": Runtime(compiles=True, half=True),
    "graph": Runtime(step="graph"),
    "graph_half": Runtime(step="graph", half=True),
    "fused_graph": Runtime(kernels="fused", step="graph"),
    "fused_graph_half": Runtime(kernels="fused", step="graph", half=True),
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
    if case.phase == "train":
        step = training(case)

        def work() -> None:
            step()
            finish(device)
    else:
        config = _config(case)
        network = _network(case, config).eval()
        pipeline = Pipeline.from_config(config.data, config.model, case.layout)
        clips = DeviceClips.from_clips(_clips(case), device)
        streams, mask = pipeline.evaluate(clips, torch.arange(case.batch, device=device))
        precision = Precision.choose(RUNTIMES[case.runtime].half, device)

        @torch.inference_mode()
        def work() -> None:
            with precision.autocast(device):
                network(streams, mask)
            finish(device)

    return work


def training(case: Case) -> Callable[[], None]:
    """Build a training; each call of the result asks for one of its steps, and does not wait for a GPU to take it.

    Raises:
        ValueError: the network does not suit the layout.
        RuntimeError: the device's memory is not enough.
    """
    device, config = torch.device(case.device), _config(case)
    network = _network(case, config).train()
    clips = DeviceClips.from_clips(_clips(case), device)
    pipeline = Pipeline.from_config(config.data, config.model, case.layout, Augmentation.from_config(config.training))
    trainer = Trainer(network, pipeline, Resident(clips), config.training, step=RUNTIMES[case.runtime].step)
    return partial(trainer.step, clips, torch.arange(case.batch, device=device))


def _network(case: Case, config: Config) -> Network:
    torch.manual_seed(0)
    device, runtime = torch.device(case.device), RUNTIMES[case.runtime]
    network = build_model(config, case.classes, case.layout, training=case.phase == "train").to(device)
    accelerate(network, device, runtime.kernels)
    if runtime.compiles:
        # PyTorch gives up on compiling after eight networks, silently, since it takes them for forms of one function.
        for limit in ("recompile_limit", "accumulated_recompile_limit"):
            setattr(torch._dynamo.config, limit, 10_000)
        network.compile(dynamic=False)
    return network


def _config(case: Case) -> Config:
    sizes: dict[str, Any] = {
        "data.frames": case.frames,
        "data.max_bodies": case.bodies,
        "training.batch_size": case.batch,
    }
    sizes |= {"training.amp": RUNTIMES[case.runtime].half, "training.structure": case.structure}
    recipe = "few_clips" if case.layout.dimensions == 3 else "pixels"
    return load_config(case.model, recipe=recipe, environment="local", overrides=sizes)


def _clips(case: Case) -> list[Clip]:
    """Bodies that stand and tremble: what they do changes no time."""
    rng = np.random.default_rng(0)
    shape = (case.frames, case.bodies, len(case.layout.joints), case.layout.dimensions)
    rest = rng.normal(size=(case.batch, 1, *shape[1:]))
    joints = (rest + 0.01 * rng.normal(size=(case.batch, *shape))).astype(np.float32)
    return [Clip(x, f"clip{i}", case.layout.name, i % case.classes) for i, x in enumerate(joints)]


def finish(device: torch.device) -> None:
    """Wait until the device has done all that it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
