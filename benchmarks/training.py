"""Measure training: `python benchmarks/training.py [--device cuda] [--json results/training_cpu.json]`.

Each step is that of `last train`, augmentation included. All cases take turns in one process, so that a ratio holds on
a busy machine too. Parts: the ways to run a step, the bounds that they are held against, where the time goes, the cost
by clips, frames and joints, trainings side by side, and, on request, LAST-E's branches, which have kernels on a CPU
alone, and `last train` from command to final table on a synthetic set of NTU RGB+D 60's size.
"""

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity
from torch.profiler import profile as torch_profile

from last.bench.side_by_side import time_side_by_side
from last.bench.speed import Speed, measure
from last.bench.workload import RUNTIMES, Case, finish, training
from last.data.clip import Clip
from last.data.datasets import load_dataset
from last.data.store_writer import StoreWriter
from last.kernels import accelerate
from last.models import create_model
from last.models.cost import count_macs
from last.progress import Reporter
from last.provenance import record
from last.run import Run
from last.skeleton import load_layout

LAST = ("last_e_nano", "last_e_small", "last_e_base", "last_e_large", "last_v2_base")
LAYOUTS = ("sbu15", "ntu", "mediapipe33")
# One person who trains and one who is tested, of NTU RGB+D 60's cross-subject protocol.
TRAINING, TESTING = 1, 3
CLIPS = (40_091, 16_487)


def speeds(cases: Sequence[Case], rounds: int) -> list[Speed]:
    """Of those that this machine can run; of the others, why not."""
    able = []
    for case in cases:
        if fault := RUNTIMES[case.runtime].fault(case.model, torch.device(case.device)):
            print(f"{case.model} by '{case.runtime}' is left out: {fault}")
        else:
            able.append(case)
    return measure(able, rounds, torch.Generator().manual_seed(0), Reporter())


def ways(first: Case, rounds: int, models: Sequence[str], runtimes: Sequence[str]) -> list[Speed]:
    """Each network by each runtime that suits it."""
    return speeds([replace(first, model=model, runtime=name) for model in models for name in runtimes], rounds)


def rates(device: torch.device) -> tuple[float, float]:
    """What the machine does at best: float32 operations a second in a product of matrices, bytes a second in a copy."""
    size, length = (1024, 1 << 26) if device.type == "cpu" else (8192, 1 << 29)
    a, b = torch.rand(2, size, size, device=device)
    source = torch.rand(length, device=device)
    target = torch.empty_like(source)

    def least(work: Callable[[], object]) -> float:
        seconds = []
        for _ in range(10):
            finish(device)
            start = time.perf_counter()
            work()
            finish(device)
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    return 2 * size**3 / least(lambda: torch.mm(a, b)), 2 * source.nbytes / least(lambda: target.copy_(source))


def kept_bytes(first: Case, model: str, runtime: str) -> float:
    """Bytes a clip that a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    network = create_model(model, first.classes, first.layout).to(first.device).train()
    accelerate(network, torch.device(first.device), RUNTIMES[runtime].kernels)
    size = (first.batch, first.layout.dimensions, first.frames, len(first.layout.joints), first.bodies)
    streams = {name: torch.rand(size, device=first.device) for name in network.streams}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        scores = network(streams)  # holds on to what is kept, so that no address is used twice
    weights = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    del scores
    return sum(size for address, size in kept.items() if address not in weights) / first.batch


def bounds(first: Case) -> dict[str, Any]:
    """Clips a second that no step can exceed: each multiply-accumulate three times, each kept byte written and read."""
    device = torch.device(first.device)
    operations, moved = rates(device)
    rows = []
    for model in LAST[:-1]:
        macs = count_macs(model, first.classes, first.layout, first.frames, first.bodies)
        for runtime in ("eager", "fused"):
            if RUNTIMES[runtime].fault(model, device) is None:
                kept = kept_bytes(first, model, runtime)
                row = {"model": model, "runtime": runtime, "macs": macs, "kept_mb": round(kept / 1e6, 2)}
                rows.append(row | {"arithmetic": round(operations / (6 * macs)), "memory": round(moved / (2 * kept))})
                print(rows[-1])
    return {"gflops": round(operations / 1e9, 1), "gb_per_second": round(moved / 1e9, 1), "rows": rows}


def profile(first: Case) -> list[dict[str, Any]]:
    """Where the time of a step goes, eagerly and by kernels: the ten largest shares of each."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if first.device != "cpu" else [])]
    rows = []
    for runtime in ("eager", "fused"):
        if RUNTIMES[runtime].fault(first.model, torch.device(first.device)) is None:
            step = training(replace(first, runtime=runtime))
            step()
            with torch_profile(activities=activities) as profiled:
                for _ in range(10):
                    step()
                finish(torch.device(first.device))
            name = "self_cpu_time_total" if first.device == "cpu" else "self_device_time_total"
            times = {event.key: getattr(event, name) for event in profiled.key_averages()}
            total = sum(times.values())
            for key in sorted(times, key=times.__getitem__, reverse=True)[:10]:
                rows.append({"runtime": runtime, "operation": key, "percent": round(100 * times[key] / total, 1)})
                print(f"{runtime:6} {rows[-1]['percent']:5.1f} % {key}")
    return rows


def costs(first: Case, rounds: int) -> list[Speed]:
    """Nano at twice and four times the clips, frames, and at other numbers of joints."""
    cases = [replace(first, batch=first.batch * factor) for factor in (1, 2, 4)]
    cases += [replace(first, frames=frames) for frames in (32, 128, 256)]
    cases += [replace(first, layout=load_layout(name)) for name in LAYOUTS if name != first.layout.name]
    return speeds(cases, rounds)


def write(folder: Path, clips: tuple[int, int]) -> None:
    """A store with the splits of NTU RGB+D 60: one body, 40 to 119 frames; each class trembles in its own pose."""
    ntu = load_dataset("ntu60")
    rng = np.random.default_rng(0)
    poses = rng.normal(0, 1, (60, 1, 1, 25, 3)).astype(np.float32)
    noise = rng.normal(0, 0.3, (240, 1, 25, 3)).astype(np.float32)
    with StoreWriter(folder, ntu.layout, ntu.classes) as writer:
        for i, frames in enumerate(rng.integers(40, 120, sum(clips)).tolist()):
            start = int(rng.integers(len(noise) - frames))
            joints = poses[i % 60] + noise[start : start + frames]
            subject = TRAINING if i < clips[0] else TESTING
            writer.append(Clip(joints, f"clip{i:05d}", "ntu", label=i % 60, subject=subject))


def whole(model: str, clips: tuple[int, int], epochs: int, device: str) -> dict[str, Any]:
    """Seconds of `last train`, from the command to its end, and what its record says."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "store", clips)
        settings = {"data.path": f"{folder}/store", "training.batch_size": 256}
        settings |= {"training.lr": 0.1, "training.amp": device != "cpu", "training.validation": 0}
        command = [sys.executable, "-m", "last.cli", "train", "--model", model, "--dataset", "ntu60"]
        command += ["--device", device, "--epochs", str(epochs), "--run", f"{folder}/run"]
        for key, value in settings.items():
            command += ["--set", f"{key}={str(value).lower() if isinstance(value, bool) else value}"]
        start = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - start
        run = Path(folder) / "run"
        result = json.loads((run / "result.json").read_text(encoding="utf-8"))
        epoch_seconds = [row["seconds"] for row in Run.open(run).history()]
    return {
        "model": model,
        "clips": clips[0],
        "epochs": epochs,
        "command_seconds": round(seconds, 1),
        "epoch_seconds_first_tenth": round(float(np.median(epoch_seconds[1 : max(2, epochs // 10 + 1)])), 3),
        "epoch_seconds_last_tenth": round(float(np.median(epoch_seconds[-max(1, epochs // 10) :])), 3),
        "top1": result["top1"],
    }


def branches(first: Case, rounds: int) -> list[Speed]:
    """LAST-E with training-time branches against the plain structure."""
    cases = [replace(first, model=model, runtime=runtime) for model in LAST[:2] for runtime in ("eager", "fused")]
    if first.device != "cpu":
        print("branches by kernels are left out: they have none on a GPU")
        cases = [case for case in cases if case.runtime == "eager"]
    return speeds([replace(case, structure=structure) for case in cases for structure in ("plain", "branched")], rounds)


def show(rows: Sequence[Speed]) -> None:
    """A line each."""
    for row in rows:
        shape = f"{row.batch} x {row.frames} frames x {row.joints} joints"
        speed = f"{row.ms_median:9.1f} ms {row.clips_per_second:10,.0f} clips/s"
        peak = "" if row.peak_mb is None else f"{row.peak_mb:9,.0f} MB"
        print(f"{row.model:14} {row.runtime:17} {row.structure:9} {shape:32} {speed} {peak}")


def main() -> None:
    """Print the figures, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=10)
    parts = ["ways", "bounds", "profile", "costs", "side"]
    parser.add_argument("--parts", nargs="+", default=parts, choices=[*parts, "branches", "set"])
    parser.add_argument("--models", nargs="+", choices=LAST, help="of the ways; else all")
    parser.add_argument("--runtimes", nargs="+", choices=list(RUNTIMES), help="of the ways; else all")
    parser.add_argument("--clips", type=int, nargs=2, default=CLIPS, help="of the set, to train and to test")
    parser.add_argument("--epochs", type=int, default=70)
    parser.add_argument("--json", type=Path, help="file for the figures, in results/")
    given = parser.parse_args()
    on_cpu = given.device == "cpu"
    threads = torch.get_num_threads()
    runtime = "fused" if on_cpu else "fused_graph_half"
    first = Case("last_e_nano", runtime, given.device, threads, 16 if on_cpu else 256, "train", load_layout("ntu"))
    content: dict[str, Any] = {"kind": "training"}
    # Compiling for a CPU takes minutes and gains nothing there.
    runtimes = given.runtimes or [name for name, runtime in RUNTIMES.items() if not (on_cpu and runtime.compiles)]
    models = given.models or (LAST[:-1] if on_cpu else LAST)
    timed_ways = partial(ways, models=models, runtimes=runtimes)
    for part, function in (("ways", timed_ways), ("costs", costs), ("branches", branches)):
        if part in given.parts:
            rows = function(first, given.rounds)
            show(rows)
            content[part] = [asdict(row) for row in rows]
    if "bounds" in given.parts:
        content["bounds"] = bounds(first)
    if "profile" in given.parts:
        content["profile"] = profile(first)
    if "side" in given.parts:
        # The batch of the recipes, for which a GPU is far too wide.
        # Compiling kernels of their own for it would take longer than all of this.
        case = replace(first, batch=16, threads=1, runtime="fused" if on_cpu else "graph")
        content["side"] = []
        for runs in (2,) if on_cpu else (2, 4, 8, 16):
            found = time_side_by_side(case, runs, 10 if on_cpu else 100)
            speed = f"{found.side_by_side:,.0f} clips/s side by side, {found.gain:.2f} times one after another"
            print(f"{runs} trainings of {case.batch}: {speed}")
            content["side"].append({**asdict(found), "gain": found.gain, "runtime": case.runtime})
    if "set" in given.parts:
        content["set"] = []
        for model in ("last_e_nano", "last_e_base"):
            content["set"].append(whole(model, tuple(given.clips), given.epochs, given.device))
            print(content["set"][-1])
    if given.json:
        content |= record(shlex.join(["python", *sys.argv]), torch.device(given.device))
        given.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
