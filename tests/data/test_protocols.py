"""Protocols part clips as the papers do, by ids alone."""

from typing import Any

import numpy as np
import pytest

from last.data.own_rules import require_rules
from last.data.protocols import PROTOCOLS, ProtocolError, held_parts, split, validation_split
from last.data.store import CLIP_DTYPE, ClipStore
from last.setting_values import ConfigError


class Table:
    """As much of a store as protocols look at."""

    def __init__(self, parts: tuple[str, ...] = (), protocols: dict[str, Any] | None = None, **ids: Any) -> None:
        self.clips: np.ndarray = np.zeros(max(np.size(value) for value in ids.values()), CLIP_DTYPE)
        self.meta = {"parts": list(parts), "protocols": protocols or {}}
        for key, value in ids.items():
            self.clips[key] = value

    def __len__(self) -> int:
        return len(self.clips)

    in_part = ClipStore.in_part


def records(**ids: int | np.ndarray) -> np.ndarray:
    return Table(**ids).clips


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
    trains, tests = split(Table(**{key: values}), protocol, dataset)
    assert trains.dtype == tests.dtype == np.int64
    assert set(values[trains]) == train and set(values[tests]) == set(values) - train


def test_ntu120_trains_on_53_of_106_subjects():
    trains, tests = split(Table(subject=np.arange(1, 107)), "xsub", "ntu120")
    assert len(trains) == len(tests) == 53
    assert {44, 102, 103, 106} - set(trains + 1) == {44, 102, 106}


def test_unseen_shares_neither_subject_nor_camera():
    subject, camera = np.meshgrid(np.arange(1, 41), [1, 2, 3])
    table = Table(subject=subject.ravel(), camera=camera.ravel())
    trains, tests = (table.clips[part] for part in split(table, "unseen", "synthetic"))
    assert (len(trains), len(tests)) == (40, 20)
    for key in ("subject", "camera"):
        assert not set(trains[key]) & set(tests[key])


def test_an_unknown_protocol_names_those_there_are():
    with pytest.raises(ProtocolError, match="data set 'ntu60' has no protocol 'xset'; it has xsub, xview"):
        split(Table(subject=1), "xset", "ntu60")
    with pytest.raises(ProtocolError, match="'mine' has no protocol 'xsub'; give it one under 'protocols'"):
        split(Table(subject=1), "xsub", "mine")


@pytest.mark.parametrize(("camera", "part"), [(1, "train"), (2, "test")])
def test_an_empty_part_is_an_error(camera, part):
    with pytest.raises(ProtocolError, match=f"none of the 5 clips to {part} on .cameras 2 and 3"):
        split(Table(camera=np.full(5, camera)), "xview", "ntu60")


@pytest.mark.parametrize("name", ["utd_mhad/xsub", "msr_action3d/xsub"])
def test_odd_subjects_train(name):
    trains, tests = split(Table(subject=np.arange(1, 11)), *reversed(name.split("/")))
    assert (trains + 1).tolist() == [1, 3, 5, 7, 9] and (tests + 1).tolist() == [2, 4, 6, 8, 10]


def test_the_original_list_of_msr_leaves_ten_clips_out():
    names = [f"a{a:02d}_s{s:02d}_e{e:02d}" for a in range(1, 21) for s in range(1, 11) for e in (1, 2, 3)]
    subjects = [int(name[5:7]) for name in names]
    kept = [
        len(np.concatenate(split(Table(name=names, subject=subjects), p, "msr_action3d"))) for p in ("xsub", "xsub557")
    ]
    assert kept == [600, 590]


def test_each_subset_of_msr_has_eight_actions():
    table = Table(label=np.repeat(np.arange(20), 2), subject=np.tile([1, 2], 20))
    for subset in ("as1", "as2", "as3"):
        trains, tests = split(table, subset, "msr_action3d")
        assert len(trains) == len(tests) == 8 and np.array_equal(
            table.clips["label"][trains], table.clips["label"][tests]
        )


def test_the_folds_of_sbu_share_no_pair_and_cover_all():
    pairs = np.array(
        [102, 103, 107, 201, 203, 206, 207, 302, 304, 305, 306, 402, 403, 406, 502, 503, 602, 603, 604, 701, 703]
    )
    tested = [pairs[split(Table(subject=pairs), f"fold{i}", "sbu")[1]].tolist() for i in range(1, 6)]
    assert sorted(pair for fold in tested for pair in fold) == pairs.tolist()
    assert tested[2] == [103, 107, 701, 703]


@pytest.mark.parametrize(
    ("name", "parts", "ids", "expected"),
    [
        # What the protocol keeps apart is dealt out; the test's subjects 2, 4 and camera 3 never occur.
        ("utd_mhad/xsub", 2, {"subject": [1, 2, 3, 4, 5, 7]}, [[0, 4], [2, 5]]),
        ("nw_ucla/xview", 2, {"subject": [1, 1, 1, 2], "camera": [1, 2, 3, 2]}, [[0], [1, 3]]),
        # Nothing is kept apart: clips are dealt, those of a class evenly.
        ("mine/given", 2, {"label": [0, 0, 1, 1, 0]}, [[0, 2], [1, 3]]),
    ],
)
def test_parts_of_the_training_clips_are_held_out_in_turn(name, parts, ids, expected):
    dataset, protocol = name.split("/")
    table = Table(parts=("given/train", "given/test"), **({"subject": -1, "camera": -1, "setup": -1} | ids))
    table.clips["parts"] = [1] * (len(table) - 1) + [2]
    whole, tests = split(table, protocol, dataset)
    for held, expect in zip(held_parts(protocol, parts), expected, strict=True):
        kept, out = split(table, held, dataset)
        assert out.tolist() == expect
        assert sorted([*kept, *out]) == whole.tolist() and not set(out) & set(tests)


@pytest.mark.parametrize("name", ["xsub-held3of2", "xsub-held0of2", "xsub-held1of1", "xsub-held1of4"])
def test_parts_that_cannot_be_are_a_sentence(name):
    with pytest.raises(ProtocolError, match=r"there are subjects 1, 3, 5 to be parted; expected 2 to 3 parts"):
        split(Table(subject=[1, 2, 3, 5]), name, "utd_mhad")


def test_parts_of_nothing_are_a_sentence():
    with pytest.raises(ProtocolError, match=r"'xsub-held1of2' of 'utd_mhad' leaves none of the 2 clips to train on"):
        split(Table(subject=[2, 4]), "xsub-held1of2", "utd_mhad")


def test_the_datas_own_lists_are_protocols():
    table = Table(parts=("xsub/train", "xsub/test", "given/test"), subject=np.arange(3))
    table.clips["parts"] = [0b001, 0b010, 0b110]
    assert [part.tolist() for part in split(table, "xsub", "mine")] == [[0], [1, 2]]
    with pytest.raises(ProtocolError, match="'given' of 'mine' leaves none of the 3 clips to train"):
        split(table, "given", "mine")
    with pytest.raises(ProtocolError, match="'mine' has no protocol 'xview'; it has given, xsub"):
        split(table, "xview", "mine")


def test_ones_own_rules_are_protocols():
    rules = {
        "own": {"train": {"subject": [1, 2], "camera": [1]}, "test": {"name": ["d", "gone"]}},
        "rest": {"train": {"label": [0]}},
    }
    require_rules(rules, "mine.yaml")
    table = Table(
        protocols=rules, subject=[1, 2, 3, 1], camera=[1, 2, 1, 2], name=["a", "b", "c", "d"], label=[0, 1, 1, 0]
    )
    assert [part.tolist() for part in split(table, "own", "mine")] == [[0], [3]]
    assert [part.tolist() for part in split(table, "rest", "mine")] == [[0, 3], [1, 2]]


def test_a_clip_without_the_id_that_a_rule_chooses_by_is_in_neither_part():
    rules = {
        "rest": {"train": {"subject": [1]}},
        "both": {"train": {"subject": [1]}, "test": {"camera": [1]}},
        "name": {"train": {"name": ["a"]}},
    }
    table = Table(protocols=rules, subject=[1, 2, -1, 1, 3], camera=[2, 1, 1, -1, 1], name=list("abcde"))
    expected = {"rest": [[0, 3], [1, 4]], "both": [[0], [1, 4]], "name": [[0], [1, 2, 3, 4]]}
    for name, parts in expected.items():
        assert [part.tolist() for part in split(table, name, "mine")] == parts


def test_a_fraction_of_each_class_trains_and_every_class_tests():
    rules = {"holdout": {"train": {"fraction": 0.8}}}
    counts = [100, 10, 6, 2, 1]
    labels = np.repeat(np.arange(5), counts)
    names = [f"take{i:03d}" for i in range(len(labels))]
    trains, tests = split(Table(protocols=rules, name=names, label=labels), "holdout", "mine")
    assert np.bincount(labels[trains]).tolist() == [80, 8, 5, 1, 1]
    assert np.bincount(labels[tests], minlength=5).tolist() == [20, 2, 1, 1, 0]
    assert len(set(np.diff(tests[:20]).tolist())) > 1  # neither those in a row nor each fifth
    # Neither the order of the clips nor those of other classes matter; some that are added move few.
    turned, _ = split(Table(protocols=rules, name=names[:100][::-1], label=labels[:100]), "holdout", "mine")
    assert set(99 - turned) == set(trains[:80])
    more = Table(protocols=rules, name=[*names[:100], *(f"new{i}" for i in range(10))], label=0)
    later, _ = split(more, "holdout", "mine")
    assert len(set(trains[:80]) - set(later)) <= 4 and 4 <= (later >= 100).sum() <= 9


def test_rules_that_train_on_test_clips_are_refused():
    rules = {"own": {"train": {"camera": [1, 2]}, "test": {"subject": [1]}}}
    with pytest.raises(ProtocolError, match="'own' of 'mine' trains on 2 of the 3 clips that it tests on, such as a "):
        split(Table(protocols=rules, subject=[1, 1, 1, 2], camera=[1, 2, 3, 1], name=list("abcd")), "own", "mine")


@pytest.mark.parametrize(
    "rule",
    [None, {}, {"test": {"subject": [1]}}, {"train": {}}, {"train": {"subjects": [1]}}, {"train": {"subject": 1}},
     {"train": {"subject": []}},
     {"train": {"subject": ["1"]}}, {"train": {"name": [1]}}, {"train": {"label": [0]}, "val": {"label": [1]}},
     {"train": {"fraction": 1}}, {"train": {"fraction": 1.5}}, {"train": {"fraction": [0.5]}},
     {"train": {"fraction": 0.8}, "test": {"fraction": 0.2}}],
)  # fmt: skip
def test_a_rule_that_is_none_is_a_sentence(rule):
    with pytest.raises(ConfigError, match=r"protocol 'x' in mine.yaml is .*, expected 'train' and perhaps 'test'"):
        require_rules({"x": rule}, "mine.yaml")


def test_a_rule_that_is_none_in_a_store_of_others_is_a_sentence():
    with pytest.raises(ProtocolError, match=r"protocol 'own' in the store's meta\.json is 5, expected 'train'"):
        split(Table(protocols={"own": 5}, subject=[1, 2]), "own", "mine")


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
    fit, held = validation_split(Table(subject=np.arange(9)), np.arange(9), 0, np.random.default_rng(0))
    assert fit.tolist() == list(range(9)) and held.tolist() == [] and held.dtype == np.int64
