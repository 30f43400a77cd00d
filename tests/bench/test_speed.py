import json
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from last.bench import memory, speed, workload
from last.bench.memory import MemoryFault, peak_mb
from last.bench.speed import Speed, interleave, markdown, measure, plan, ratios
from last.bench.workload import RUNTIMES, Case, Runtime, prepare
from last.cli import main
from last.kernels import kernel_fault
from last.progress import Reporter
from last.setting_values import ConfigError
from last.skeleton import load_layout

CPU = torch.device("cpu")
NTU = load_layout("ntu")
CASE = Case("ddnet_small", "eager", "cpu", 1, 2, "infer", NTU, frames=8)
SPEED = Speed("ddnet_small", "eager", "cpu", 1, 2, 8, 25, 1, "infer", 200.0, 10.0, 1.0, 3.0)


def test_each_network_is_timed_at_each_work_and_trains_at_the_largest():
    cases, faults = plan(["ddnet", "sgn"], ["eager"], CPU, [1, 2], [1, 4], ["infer", "train"], NTU)
    assert not faults
    works = [(c.phase, c.batch, c.threads) for c in cases if c.model == "sgn"]
    assert works == [("infer", 1, 1), ("infer", 1, 2), ("infer", 4, 1), ("infer", 4, 2), ("train", 4, 2)]
    assert len(cases) == 2 * len(works)


def test_a_runtime_that_is_not_there_is_left_out_in_a_sentence(monkeypatch):
    monkeypatch.setattr(workload, "_compiler_fault", lambda device: "no compiler here")
    cases, faults = plan(["sgn"], ["eager", "compiled"], CPU, [1], [1], ["infer", "train"], NTU)
    assert faults == ["'compiled' is left out for sgn: no compiler here"]
    assert {case.runtime for case in cases} == {"eager"}


def test_a_runtime_that_changes_the_step_alone_is_not_timed_without_one(monkeypatch):
    monkeypatch.setitem(RUNTIMES, "other", Runtime(step="graph"))
    monkeypatch.setattr(Runtime, "fault", lambda self, model, device: None)
    cases, _ = plan(["sgn"], ["other"], CPU, [1], [1], ["infer", "train"], NTU)
    assert [case.phase for case in cases] == ["train"]


def test_what_needs_a_gpu_or_kernels_says_so():
    _, faults = plan(["sgn", "ddnet"], ["fused", "graph", "compiled_half"], CPU, [1], [1], ["train"], NTU)
    assert faults == [
        "'fused' is left out for sgn, ddnet: there are no kernels for it",
        "'graph' is left out for sgn, ddnet: a captured step needs a GPU, and the device is cpu",
        "'compiled_half' is left out for sgn, ddnet: mixed precision needs a GPU, and the device is cpu",
    ]


def test_fused_runs_the_kernels():
    if reason := kernel_fault("last_e_nano", CPU):
        pytest.skip(reason)
    case = replace(CASE, model="last_e_nano", runtime="fused", phase="train", frames=16)
    prepare(case)()
    cases, faults = plan(["last_e_nano"], ["fused"], CPU, [1], [1], ["infer", "train"], NTU)
    assert len(cases) == 2 and not faults


def test_a_runtime_that_does_not_exist_is_told():
    with pytest.raises(ConfigError, match="no runtime tensorflow; there are: eager, fused, compiled"):
        plan(["sgn"], ["tensorflow"], CPU, [1], [1], ["infer"], NTU)


def test_without_a_compiler_the_reason_is_told(monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("no C++ compiler found")

    monkeypatch.setattr(torch, "compile", fail)
    workload._compiler_fault.cache_clear()
    assert "no C++ compiler found" in RUNTIMES["compiled"].fault("sgn", CPU)
    workload._compiler_fault.cache_clear()


@pytest.fixture
def clock(monkeypatch):
    """Time that passes in the works alone; it returns a maker of works that take so many milliseconds."""
    now, done = [0.0], []

    def work(name, *milliseconds):
        left = list(milliseconds)

        def do():
            done.append(name)
            now[0] += (left.pop(0) if len(left) > 1 else left[0]) / 1e3

        return do

    monkeypatch.setattr(speed, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(speed, "SECONDS", 0.01)
    return SimpleNamespace(work=work, done=done)


def test_each_round_gives_every_case_a_moment_and_slow_ones_sit_out(clock):
    quick, even, slow = CASE, replace(CASE, model="even"), replace(CASE, model="slow")
    works = {quick: clock.work("quick", 3), even: clock.work("even", 10), slow: clock.work("slow", 60)}
    times = interleave(works, 5, torch.Generator().manual_seed(0))
    assert times == {quick: pytest.approx([3] * 5), even: pytest.approx([10] * 5), slow: pytest.approx([60])}
    assert clock.done.count("quick") == 5 * 4  # the fourth call ends the moment of 10 ms


def test_the_first_call_after_another_case_does_not_count(clock):
    times = interleave({CASE: clock.work("x", 9, 2)}, 1, torch.Generator().manual_seed(0))
    assert times[CASE] == pytest.approx([2])


def test_the_order_is_drawn_anew_and_by_the_generator_alone(clock):
    def rounds(seed):
        clock.done.clear()
        works = {replace(CASE, batch=i): clock.work(i, 10) for i in range(1, 6)}
        interleave(works, 6, torch.Generator().manual_seed(seed))
        return [tuple(clock.done[k : k + 5]) for k in range(0, 30, 5)]

    assert all(sorted(order) == [1, 2, 3, 4, 5] for order in rounds(0))
    assert len(set(rounds(0))) > 1
    assert rounds(0) == rounds(0) != rounds(1)


def test_the_work_is_the_networks_own(monkeypatch):
    seen = []
    network = workload.build_model

    def build(config, classes, layout, training):
        model = network(config, classes, layout, training)
        model.register_forward_hook(lambda m, args, y: seen.append((m.training, torch.is_grad_enabled(), y.shape)))
        return model

    monkeypatch.setattr(workload, "build_model", build)
    prepare(CASE)()
    prepare(replace(CASE, phase="train", classes=5))()
    assert seen == [(False, False, (2, 60)), (True, True, (2, 5))]


def test_a_training_step_moves_the_weights(monkeypatch):
    models = []
    network = workload.build_model
    monkeypatch.setattr(workload, "build_model", lambda *a, **k: models.append(network(*a, **k)) or models[-1])
    step = prepare(replace(CASE, phase="train"))
    before = [p.clone() for p in models[0].parameters()]
    step()
    assert any(not torch.equal(old, new) for old, new in zip(before, models[0].parameters(), strict=True))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_memory_grows_with_the_batch():
    small, large = (peak_mb(replace(CASE, batch=batch)) for batch in (1, 256))
    assert 0 < small < large < 2000


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_more_memory_than_there_is_does_not_end_the_program():
    with pytest.raises(MemoryFault, match=r"ddnet_small, infer, batch 100000 is left out: .*allocate"):
        peak_mb(replace(CASE, batch=100_000, frames=10_000))  # 600 GB


def test_without_proc_the_memory_is_not_measured(monkeypatch):
    monkeypatch.setattr(memory, "_STATUS", Path("/nothing/here"))
    assert peak_mb(CASE) is None


def test_a_case_that_does_not_fit_is_left_out_in_a_sentence(monkeypatch, capsys):
    def peak(case):
        if case.batch > 2:
            raise MemoryFault("ddnet_small, infer, batch 4 is left out: no memory")
        return 3.0

    monkeypatch.setattr(speed, "peak_mb", peak)
    monkeypatch.setattr(speed, "SECONDS", 0.001)
    threads = torch.get_num_threads()
    found = measure([CASE, replace(CASE, batch=4)], 3, torch.Generator().manual_seed(0), Reporter())
    assert "batch 4 is left out: no memory" in capsys.readouterr().err
    assert torch.get_num_threads() == threads
    (row,) = found
    assert (row.model, row.batch, row.joints, row.peak_mb) == ("ddnet_small", 2, 25, 3.0)
    assert row.clips_per_second == pytest.approx(2000 / row.ms_median, rel=0.01)


def test_ratios_compare_the_same_work_alone():
    reference = replace(SPEED, model="efficientgcn_b0", clips_per_second=50.0)
    other_work = replace(SPEED, batch=1)
    assert ratios([SPEED, reference, other_work], "efficientgcn_b0") == [4.0, 1.0, None]
    # Kernels that the reference lacks are held against it as it runs.
    by_kernels, captured = replace(SPEED, runtime="fused"), replace(SPEED, runtime="graph")
    assert ratios([by_kernels, captured, reference], "efficientgcn_b0") == [4.0, None, 1.0]


def test_the_markdown_table():
    rows = [
        SPEED,
        replace(SPEED, phase="train", peak_mb=None, ms_spread=0.0),
        replace(SPEED, model="efficientgcn_b0", clips_per_second=100.0, ms_median=20.0),
    ]
    assert markdown(rows).splitlines() == [
        "| model | runtime | infer 2, 1 thread | train 2, 1 thread | MB, infer 2 | MB, train 2 |",
        "| --- | --- | --- | --- | --- | --- |",
        "| `ddnet_small` | eager | 10.0 ± 1.0 (2.00) | 10.0 | 3 | not measured |",
        "| `efficientgcn_b0` | eager | 20.0 ± 1.0 (1.00) | not measured | 3 | not measured |",
    ]


def test_the_command_prints_records_and_writes_a_result(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(speed, "peak_mb", lambda case: 1.5)
    file = tmp_path / "speed.json"
    arguments = [
        "--models",
        "ddnet-small",
        "--frames",
        8,
        "--batch",
        2,
        "--threads",
        1,
        "--rounds",
        1,
        "--device",
        "cpu",
    ]
    assert main(["bench", "speed", *map(str, arguments), "--json", "--results", str(file)]) == 0
    records = json.loads(capsys.readouterr().out)
    assert [record["phase"] for record in records] == ["infer", "train"]
    assert list(records[0]) == [field.name for field in fields(Speed)]
    result = json.loads(file.read_text())
    assert (result["kind"], result["records"]) == ("speed", records)
    assert {"command", "commit", "hardware", "torch", "date"} <= set(result)
    assert main(["bench", "speed", *map(str, arguments), "--reference", "ddnet_small"]) == 0
    assert " 1.00\n" in capsys.readouterr().out
    capsys.readouterr()
    assert main(["bench", "speed", "--reference", "nano_x"]) == 2  # before anything is timed
    assert "no model 'nano_x'" in capsys.readouterr().err
