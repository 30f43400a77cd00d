"""Protocols part clips as the papers do, by ids alone."""

import numpy as np
import pytest

from last.data.protocols import PROTOCOLS, ProtocolError, split, validation_split
from last.data.store import CLIP_DTYPE


def records(**ids: int | np.ndarray) -> np.ndarray:
    clips: np.ndarray = np.zeros(max(np.size(value) for value in ids.values()), CLIP_DTYPE)
    for key, value in ids.items():
        clips[key] = value
    return clips


@pytest.mark.parametrize(
    ("name", "key", "train"),
    [
        ("ntu60/xsub", "subject", {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}),
        ("ntu60/xview", "camera", {2, 3}),
        ("ntu120/xset", "setup", set(range(2, 33, 2))),
        ("nw_ucla/xview", "camera", {1, 2}),
        ("synthetic/xsub", "subject", {1, 2, 4, 5, 8, 9, 13, 14, 15, 16, 17, 18, 19, 25, 27, 28, 31, 34, 35, 38}),
        ("synthetic/xview", "camera", {2, 3}),
    ],
)
def test_ids_decide_who_trains(name, key, train):
    values = np.arange(1, {"subject": 41, "camera": 4, "setup": 33}[key])
    dataset, protocol = name.split("/")
    trains, tests = split(records(**{key: values}), protocol, dataset)
    assert trains.dtype == tests.dtype == np.int64
    assert set(values[trains]) == train and set(values[tests]) == set(values) - train


def test_ntu120_trains_on_53_of_106_subjects():
    trains, tests = split(records(subject=np.arange(1, 107)), "xsub", "ntu120")
    assert len(trains) == len(tests) == 53
    assert {44, 102, 103, 106} - set(trains + 1) == {44, 102, 106}


def test_unseen_shares_neither_subject_nor_camera():
    subject, camera = np.meshgrid(np.arange(1, 41), [1, 2, 3])
    clips = records(subject=subject.ravel(), camera=camera.ravel())
    trains, tests = clips[(parts := split(clips, "unseen", "synthetic"))[0]], clips[parts[1]]
    assert (len(trains), len(tests)) == (40, 20)
    for key in ("subject", "camera"):
        assert not set(trains[key]) & set(tests[key])


def test_an_unknown_protocol_names_those_there_are():
    with pytest.raises(ProtocolError, match="data set 'ntu60' has no protocol 'xset'; it has xsub, xview"):
        split(records(subject=1), "xset", "ntu60")
    with pytest.raises(ProtocolError, match="'mine' has no protocol 'xsub'; give it one in"):
        split(records(subject=1), "xsub", "mine")


@pytest.mark.parametrize(("camera", "part"), [(1, "train"), (2, "test")])
def test_an_empty_part_is_an_error(camera, part):
    with pytest.raises(ProtocolError, match=f"none of the 5 clips to {part} on .cameras 2 and 3"):
        split(records(camera=np.full(5, camera)), "xview", "ntu60")


def test_every_protocol_says_its_rule():
    assert all(protocol.rule for protocol in PROTOCOLS.values())


def test_validation_takes_whole_subjects_near_the_fraction():
    subjects = np.repeat(np.arange(1, 21), 10)
    clips, train = records(subject=subjects), np.arange(100, 200)
    for fraction, expected in [(0.01, 10), (0.12, 10), (0.3, 30), (1.0, 90)]:
        fit, held = validation_split(clips, train, fraction, np.random.default_rng(0))
        assert len(held) == expected and sorted([*fit, *held]) == list(train)
        assert not set(subjects[fit]) & set(subjects[held])


def test_validation_of_few_subjects_takes_a_part_of_each_class():
    labels = np.repeat([0, 1, 2], [40, 20, 1])
    clips = records(subject=np.arange(61) % 4, label=labels)
    fit, held = validation_split(clips, np.arange(61), 0.1, np.random.default_rng(0))
    assert np.bincount(labels[held], minlength=3).tolist() == [4, 2, 0]
    assert sorted([*fit, *held]) == list(range(61))
    fit, _ = validation_split(clips, np.arange(61), 0.99, np.random.default_rng(0))
    assert set(labels[fit]) == {0, 1, 2}


def test_validation_follows_its_generator_alone():
    clips, train = records(subject=np.repeat(np.arange(20), 5)), np.arange(100)
    draws = [validation_split(clips, train, 0.2, np.random.default_rng(seed))[1].tolist() for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_no_validation_leaves_training_whole():
    fit, held = validation_split(records(subject=np.arange(9)), np.arange(9), 0, np.random.default_rng(0))
    assert fit.tolist() == list(range(9)) and held.tolist() == [] and held.dtype == np.int64
