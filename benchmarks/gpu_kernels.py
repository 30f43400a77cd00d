"""Check and time LAST-E's Triton kernels: `python benchmarks/gpu_kernels.py --json results/gpu_kernels.json`.

Forward and backward of each operation and of whole networks, by plain PyTorch, torch.compile and the kernels, as
replays of a CUDA graph, so that no launch waits for Python; between replays a write of 256 MB empties the cache. Each
row says how many bytes the kernels move, counted by hand, and the bound: these at the rate that this card copies at.
Ten minutes suffice; what no longer fits into --seconds is left out and named, the most telling rows come first.

Shapes: N clips, C channels, T frames, V joints.
"""

import argparse
import copy
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from last.kernels.gpu import fault
from last.models.last_e import LastE, LightGCNBlock, StreamFusion, last_e_base, last_e_nano
from last.skeleton import load_layout

NETWORKS = {"nano": last_e_nano, "base": last_e_base}
KINDS = {"float32": torch.float32, "bfloat16": torch.bfloat16}
# Of the norm: rounding, and for bfloat16 what a sum of many gradients leaves of it. Plain PyTorch's own stands beside.
TOLERANCE = {"float32": 2e-3, "bfloat16": 0.1}
FRAMES = 64
Call = Callable[..., Tensor]


@dataclass(frozen=True)
class Case:
    """One operation: two ways to compute it, of the same layers."""

    name: str
    layer: nn.Module
    plain: Call
    fused: Call
    shapes: tuple[tuple[int, ...], ...]
    elements: int  # stored ones, moved by the kernels forward and backward
    streams: int = 0  # float32 ones of the input, likewise
    data: bool = False  # whether the inputs ask for no gradient


@dataclass
class Row:
    """What was found of a case; milliseconds are medians, forward and backward."""

    network: str
    case: str
    kind: str
    error: float
    plain_error: float
    megabytes: float
    bound_ms: float
    plain_ms: float | None = None
    compiled_ms: float | None = None
    fused_ms: float | None = None


def operations(network: LastE, count: int) -> Iterator[Case]:
    """The network, and each operation of it once for each size."""
    from last.kernels.gpu import block as gpu

    joints = network.blocks[0].gcn.graph.shape[1]
    width, frames = network.fusion.weights.shape[1], FRAMES
    streams = 3 * 3 * count * frames * joints
    fusion_out = count * width * frames * joints
    cases = [
        Case(
            f"fuse {width}",
            network.fusion,
            lambda m, x: m(x),
            lambda m, x: gpu.fuse_streams(x, m),
            ((count, 3, 3, frames, joints),),
            2 * fusion_out,
            3 * streams,
            data=True,
        )
    ]
    total, seen = 2 * fusion_out, set()
    for block in network.blocks:
        cin, cout, stride = block.gcn.conv.in_channels, block.norm.num_features, block.tcn.branches[0][2].stride[0]
        shape = (count, cin, frames, joints)
        after = frames // stride
        x, y, z = (count * joints * size for size in (cin * frames, cout * frames, cout * after))
        graph_bytes, temporal_bytes, attend_bytes = 4 * x + 10 * y, 8 * y + 15 * z, 8 * y
        attends = not isinstance(block.attention, nn.Identity)
        # An identity's gradient is added to the graph's; a convolution's is of its own, and added too.
        sides = 3 * x if isinstance(block.residual, nn.Identity) else 4 * x + 10 * z + 3 * x
        total += graph_bytes + temporal_bytes + attends * attend_bytes + sides
        frames, known = after, (cin, cout, stride) in seen
        seen.add((cin, cout, stride))
        if known:
            continue
        name, wide, narrow = f"{cin}>{cout} /{stride}", (count, cout, shape[2], joints), (count, cout, after, joints)
        cases.append(
            Case(
                f"graph {name}",
                block,
                lambda b, x: b.norm(b.gcn(x)).relu(),
                lambda b, x: gpu.graph_norm(x, b.gcn.conv, b.norm, b.gcn),
                (shape,),
                graph_bytes,
            )
        )
        cases.append(
            Case(
                f"temporal {name}",
                block.tcn,
                lambda m, y, r: (m(y) + r).relu(),
                temporal,
                (wide, narrow),
                temporal_bytes,
            )
        )
        if attends:
            attention = (lambda m, y: m(y)), (lambda m, y: gpu.attend(y, m))
            cases.append(Case(f"attend {name}", block.attention, *attention, (wide,), attend_bytes))
    whole = (count, 3, 3, FRAMES, joints)
    yield Case("network", network, scores, fused_scores, (whole,), total, 3 * streams, data=True)
    yield from cases


def temporal(module: nn.Module, y: Tensor, residual: Tensor) -> Tensor:
    """The kernels' side of a temporal case."""
    from last.kernels.gpu import block as gpu

    p = module.dropout.p
    seed = torch.randint(2**31, (1,), device=y.device) if p else None
    return gpu.temporal(y, module.branches, residual.to(y.dtype), p, seed)


def scores(network: LastE, x: Tensor) -> Tensor:
    """The plain network on (N, S, C, T, V)."""
    return network({name: x[:, i, ..., None] for i, name in enumerate(network.streams)})


def fused_scores(network: LastE, x: Tensor) -> Tensor:
    """The same on the kernels."""
    from last.kernels.gpu.block import GpuKernels

    for layer in network.modules():
        if isinstance(layer, StreamFusion | LightGCNBlock):
            layer.kernels = GpuKernels()
    return scores(network, x)


def step(
    call: Call, layer: nn.Module, kind: torch.dtype, case: Case, inputs: list[Tensor]
) -> Callable[[], list[Tensor]]:
    """Forward and backward: the result, then all gradients; one that there is none of is zero."""
    half = kind != torch.float32
    parameters = [p for p in layer.parameters() if p.requires_grad]
    weights: list[Tensor] = []  # of the result; drawn once, since drawing would be timed

    def work() -> list[Tensor]:
        with torch.autocast("cuda", kind) if half else nullcontext():
            out = call(layer, *inputs)
        wanted = parameters if case.data else [*inputs, *parameters]
        if not weights:
            generator = torch.Generator("cuda").manual_seed(1)
            weights.append(torch.randn(out.shape, device="cuda", generator=generator).to(out.dtype))
        grads = torch.autograd.grad(out, wanted, weights[0], allow_unused=True)
        return [out, *(torch.zeros_like(p) if g is None else g for p, g in zip(wanted, grads, strict=True))]

    return work


def error(found: list[Tensor], expected: list[Tensor]) -> float:
    """The worst distance by norm, among all but gradients that vanish; NaN stays NaN."""
    scale = max(e.double().norm().item() for e in expected[1:])
    worst = 0.0
    for f, e in zip(found, expected, strict=True):
        size = max(e.double().norm().item(), 1e-4 * scale)
        distance = (f.double() - e.double()).norm().item() / size
        worst = distance if distance > worst or distance != distance else worst
    return worst


def fresh(case: Case, kind: torch.dtype, seed: int) -> list[Tensor]:
    """Random inputs; streams stay in float32."""
    generator = torch.Generator("cuda").manual_seed(seed)
    kind = torch.float32 if case.data else kind
    made = [torch.randn(shape, device="cuda", generator=generator).to(kind) for shape in case.shapes]
    return [x.requires_grad_(not case.data) for x in made]


def without_dropout(layer: nn.Module) -> nn.Module:
    """A copy that drops nothing, so that two ways agree."""
    layer = copy.deepcopy(layer)
    for module in layer.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return layer


def check(case: Case, kind: torch.dtype) -> tuple[float, float]:
    """Errors of the kernels and of plain PyTorch in this kind, both against plain float32."""
    inputs = fresh(case, kind, int(time.time()))
    torch.backends.cudnn.allow_tf32 = False
    exact = [x.detach().float().requires_grad_(x.requires_grad) for x in inputs]
    plain, same, fused = (without_dropout(case.layer) for _ in range(3))
    expected = step(case.plain, plain, torch.float32, case, exact)()
    torch.backends.cudnn.allow_tf32 = True  # PyTorch's default, and so what plain PyTorch is timed with
    own = error(step(case.plain, same, kind, case, inputs)(), expected)
    return error(step(case.fused, fused, kind, case, inputs)(), expected), own


def replay_ms(work: Callable[[], object], flush: Tensor, repeats: int = 40) -> float:
    """Median milliseconds of a replay."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        kept = work()
    times = []
    for _ in range(repeats + 5):
        flush.zero_()
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        captured.replay()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    del kept, captured
    return median(times[5:])


def copy_rate(flush: Tensor) -> float:
    """Bytes a second, read and written, of a large copy."""
    a, b = (torch.randn(2**28, device="cuda") for _ in range(2))
    return 2 * 4 * a.numel() / (1e-3 * replay_ms(lambda: b.copy_(a), flush, 20))


def timed(work: Callable[[], object], flush: Tensor, faults: list[str], name: str) -> float | None:
    """Milliseconds, or None with the reason among the faults: one way that fails must not cost the others."""
    try:
        return round(replay_ms(work, flush), 4)
    except Exception as reason:  # what a compiler may raise is not to be listed
        faults.append(f"{name}: {type(reason).__name__}: {str(reason).splitlines()[0][:200] if str(reason) else ''}")
        return None


def table(rows: list[Row]) -> str:
    """One line a row."""
    lines = [
        f"{'network':8}{'case':20}{'kind':10}{'error':>9}{'plain':>9}{'MB':>8}{'bound':>8}{'plain':>9}{'compile':>9}"
        f"{'kernels':>9}{'GB/s':>7}  of bound"
    ]
    for row in rows:
        times = "".join(
            f"{'-' if t is None else format(t, '.3f'):>9}" for t in (row.plain_ms, row.compiled_ms, row.fused_ms)
        )
        rate = "" if row.fused_ms is None else f"{row.megabytes / row.fused_ms:7.0f}{row.bound_ms / row.fused_ms:9.0%}"
        mark = "" if row.error <= TOLERANCE[row.kind] else "  WRONG"
        lines.append(
            f"{row.network:8}{row.case:20}{row.kind:10}{row.error:9.1e}{row.plain_error:9.1e}{row.megabytes:8.0f}"
            f"{row.bound_ms:8.3f}{times}{rate}{mark}"
        )
    return "\n".join(lines)


def main() -> None:
    """Check all, time all, print the table last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=500)
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    reason = fault(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    if reason:
        sys.exit(reason)
    flush = torch.empty(64 * 2**20, device="cuda")
    rate = copy_rate(flush)
    faults: list[str] = []
    work: list[tuple[Row, Case, torch.dtype]] = []
    layout = load_layout("ntu")
    for name, build in NETWORKS.items():
        torch.manual_seed(0)
        network = build(60, layout).cuda().train()
        for case in operations(network, arguments.batch):
            for label, kind in KINDS.items():
                size = case.elements * kind.itemsize + 4 * case.streams
                work.append(
                    (Row(name, case.name, label, float("nan"), float("nan"), size / 1e6, 1e3 * size / rate), case, kind)
                )
    work.sort(key=lambda item: item[1].name != "network")

    def each(title: str, measure: Callable[[Row, Case, torch.dtype, str], None]) -> None:
        for row, case, kind in work:
            label = f"{title} {row.network} {row.case} {row.kind}"
            if time.monotonic() > end:
                faults.append(f"{label}: left out, --seconds was over")
                continue
            try:
                measure(row, case, kind, label)
            except Exception as reason:  # as above
                faults.append(f"{label}: {type(reason).__name__}: {str(reason)[:200]}")
            print(f"{arguments.seconds - end + time.monotonic():6.0f} s  {label}", file=sys.stderr, flush=True)
            arguments.json.write_text(json.dumps(report(), indent=1) + "\n")

    def report() -> dict[str, object]:
        return {
            "command": " ".join(sys.argv),
            "commit": subprocess.run(
                ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
            ).stdout.strip(),
            "device": torch.cuda.get_device_name(),
            "torch": torch.__version__,
            "batch": arguments.batch,
            "frames": FRAMES,
            "copy_gb_per_s": round(rate / 1e9, 1),
            "rows": [asdict(row) for row, _, _ in work],
            "faults": faults,
        }

    def measure_fused(row: Row, case: Case, kind: torch.dtype, label: str) -> None:
        row.error, row.plain_error = check(case, kind)
        layer, inputs = copy.deepcopy(case.layer), fresh(case, kind, 2)
        row.fused_ms = timed(step(case.fused, layer, kind, case, inputs), flush, faults, label)

    def measure_plain(row: Row, case: Case, kind: torch.dtype, label: str) -> None:
        layer, inputs = copy.deepcopy(case.layer), fresh(case, kind, 2)
        row.plain_ms = timed(step(case.plain, layer, kind, case, inputs), flush, faults, label)

    def measure_compiled(row: Row, case: Case, kind: torch.dtype, label: str) -> None:
        layer, inputs = copy.deepcopy(case.layer), fresh(case, kind, 2)
        torch.compiler.reset()
        row.compiled_ms = timed(step(torch.compile(case.plain), layer, kind, case, inputs), flush, faults, label)

    each("kernels", measure_fused)
    each("plain", measure_plain)
    each("compile", measure_compiled)
    for found in faults:
        print(found)
    for row, case, _ in work:
        if case.name == "network" and row.fused_ms:
            print(f"{row.network} {row.kind}: {1e3 * arguments.batch / row.fused_ms:,.0f} clips a second, kernels")
    print(f"{torch.cuda.get_device_name()}, copies {rate / 1e9:,.0f} GB/s, N = {arguments.batch}; milliseconds")
    print(table([row for row, _, _ in work]))


if __name__ == "__main__":
    main()
