"""Trainings side by side are timed against the same ones after another."""

import threading
import time

import pytest
import torch

from last.bench import side_by_side
from last.bench.side_by_side import time_side_by_side
from last.bench.workload import Case


@pytest.fixture
def case(stick):
    return Case("last_e_nano", "eager", "cpu", 1, 3, "train", stick, frames=8, classes=2)


def test_both_ways_train_and_their_speed_is_that_of_all_runs(case):
    threads = torch.get_num_threads()
    result = time_side_by_side(case, runs=2, steps=1, rounds=1)
    assert result.runs == 2
    assert result.gain == pytest.approx(result.side_by_side / result.one_after_another)
    assert min(result.side_by_side, result.one_after_another) > 0
    assert torch.get_num_threads() == threads


def test_runs_that_wait_gain_by_waiting_together(case, monkeypatch):
    at_work, most, lock = 0, 0, threading.Lock()

    def step():
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
        time.sleep(0.02)
        with lock:
            at_work -= 1

    monkeypatch.setattr(side_by_side, "training", lambda case: step)
    result = time_side_by_side(case, runs=4, steps=5, rounds=1)
    assert most == 4
    assert result.gain > 1
    # Four runs of five steps of three clips, 20 ms a step at least.
    assert result.one_after_another <= 150


def test_a_case_of_another_phase_is_refused(stick):
    with pytest.raises(ValueError, match="the case is of the phase 'infer'"):
        time_side_by_side(Case("last_e_nano", "eager", "cpu", 1, 3, "infer", stick), 2, 1)
