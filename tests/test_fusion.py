import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from last.cli import main
from last.evaluate import Scores
from last.fusion import Fusion, fuse
from last.run import RunError
from last.scored_run import ScoredRun, names_of
from scored_runs import sure, write_scored_run

LABELS = [0, 1, 2, 0]
LOGITS = arrays(np.float64, (4, 3), elements=st.floats(-20, 20))


@pytest.fixture
def two(tmp_path):
    """Two runs, each right in two clips of four; together they are right in three."""
    write_scored_run(tmp_path / "a", sure([0, 1, 0, 1], 0.8), LABELS, parameters=1000)
    write_scored_run(tmp_path / "b", sure([1, 0, 2, 0], [0.5, 0.4, 0.9, 0.6]), LABELS, parameters=500, seed=1)
    return [tmp_path / "a", tmp_path / "b"]


def opened(paths):
    return [ScoredRun.open(path) for path in paths]


def softmax(logits):
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def test_the_mean_by_hand():
    one, other = np.array([[0.5, 0.5, 0.0]]), np.array([[0.1, 0.1, 0.8]])
    np.testing.assert_allclose(fuse([one, other]), [[0.3, 0.3, 0.4]], rtol=1e-6)
    np.testing.assert_allclose(fuse([one, other], [6, 2]), [[0.4, 0.4, 0.2]], rtol=1e-6)
    np.testing.assert_allclose(fuse([one, other], [0, 5]), other, rtol=1e-6)
    # Square roots of 0.5 x 0.1, 0.5 x 0.1 and 0 x 0.8: what one rules out, nobody believes.
    np.testing.assert_allclose(fuse([one, other], mean_of="logits"), [[0.5, 0.5, 0]], atol=1e-6)


@settings(max_examples=30)
@given(LOGITS, LOGITS, st.floats(0.01, 10), st.floats(0.01, 10))
def test_the_mean_of_logits_is_their_sum_in_published_ensembles(one, other, weight, another):
    total = softmax((weight * one + another * other) / (weight + another))
    fused = fuse([softmax(one).astype(np.float32), softmax(other).astype(np.float32)], [weight, another], "logits")
    np.testing.assert_allclose(fused, total, atol=2e-5)


@pytest.mark.parametrize("weights", [[-1, 1], [0, 0], [np.nan, 1], [np.inf, 1]])
def test_weights_that_weigh_nothing_are_told(weights):
    with pytest.raises(ValueError, match="expected numbers from 0 that are not all 0"):
        fuse([np.eye(3)] * 2, weights)
    with pytest.raises(ValueError, match="1 weights for 2 networks"):
        fuse([np.eye(3)] * 2, [1])


def test_a_fusion_is_written_as_a_run_is(two, tmp_path):
    fusion = Fusion.of(opened(two))
    page = fusion.write(tmp_path / "fused", {"command": "last fuse a b", "commit": "abc"})
    record = json.loads((tmp_path / "fused" / "result.json").read_text())
    assert (record["kind"], record["networks"], record["parameters"]) == ("fusion", 2, 1500)
    assert (record["top1"], record["test_clips"], record["correct"]) == (75, 4, "1110")
    assert [run["top1"] for run in record["runs"]] == [50, 50]
    assert (record["dataset"], record["command"]) == ("toy", "last fuse a b")
    assert "last fuse a b" in page.read_text() and "75.00 %" in page.read_text()

    again = ScoredRun.open(tmp_path / "fused")
    assert again.description == "fusion of 2 networks"
    np.testing.assert_array_equal(again.scores.probabilities, fusion.scores.probabilities)
    with pytest.raises(RunError, match="fused is a fusion itself; give its 2 runs"):
        Fusion.of([again, ScoredRun.open(two[0])])


def test_the_weights_decide(two):
    assert Fusion.of(opened(two), [1, 0]).scores.correct.tolist() == [True, True, False, False]
    assert Fusion.of(opened(two), [0, 1]).scores.correct.tolist() == [False, False, True, True]


def test_what_cannot_be_fused_is_told(two, tmp_path):
    with pytest.raises(RunError, match="two runs or more, each given once"):
        Fusion.of(opened(two[:1]))
    with pytest.raises(RunError, match="two runs or more, each given once"):
        Fusion.of(opened([two[0], two[0]]))
    (two[0] / "config.yaml").touch()
    with pytest.raises(RunError, match="a holds a run"):
        Fusion.of(opened(two)).write(two[0], {})

    other = {
        "labels": (sure([0, 1, 2, 1]), [0, 1, 2, 1], "'clip3' of class 'wave' in the first and 'clip3' of class 'sit'"),
        "fewer": (sure([0, 1, 2]), LABELS[:3], r"\(4 and 3\): number 3 is 'clip3' .* and no clip in the second"),
    }
    for name, (probabilities, labels, message) in other.items():
        path = write_scored_run(tmp_path / name, probabilities, labels)
        with pytest.raises(RunError, match=message):
            Fusion.of(opened([two[0], path]))
    path = write_scored_run(tmp_path / "classes", sure(LABELS), LABELS, classes=("wave", "sit", "run"))
    with pytest.raises(RunError, match="class 2 is 'fall' in the first and 'run' in the second"):
        Fusion.of(opened([two[0], path]))


def test_scores_and_result_must_be_of_one_evaluation(tmp_path):
    path = write_scored_run(tmp_path / "a", sure(LABELS), LABELS, top1=90.0)
    with pytest.raises(RunError, match=r"reports a top-1 of 90\.00, but the scores beside it give 100\.00"):
        ScoredRun.open(path)
    (path / "result.json").write_text("[]")
    with pytest.raises(RunError, match="cannot read the result in"):
        ScoredRun.open(path)
    with pytest.raises(RunError, match="there is no result at"):
        ScoredRun.open(tmp_path / "nothing")


def test_other_weights_of_a_run_are_chosen_by_their_file(tmp_path):
    path = write_scored_run(tmp_path / "a", sure(LABELS), LABELS)
    for kind in ("scores.npz", "result.json"):
        name, suffix = kind.split(".")
        (path / f"{name}.best.crops1.{suffix}").write_bytes((path / kind).read_bytes())
    best = ScoredRun.open(path / "scores.best.crops1.npz")
    assert best.name == "a.best.crops1"
    assert Fusion.of([best, ScoredRun.open(path)]).metrics.top1 == 100


def test_folders_of_one_name_are_told_apart(tmp_path):
    paths = [write_scored_run(tmp_path / folder / "first", sure(LABELS), LABELS) for folder in ("a", "b")]
    assert names_of(opened(paths[:1])) == ["first"]
    assert len(set(names_of(opened(paths)))) == 2


def test_scores_come_back_as_they_were(tmp_path):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 5).astype(np.float32)
    scores = Scores(np.array([b"a", b"b\xff", b"", b"d", b"e"]), np.arange(5) % 3, probabilities, ("x", "ü", "z"))
    scores.save(tmp_path / "scores.npz")
    again = Scores.open(tmp_path / "scores.npz")
    assert again.names.tolist() == scores.names.tolist() and again.classes == scores.classes
    np.testing.assert_array_equal(again.probabilities, probabilities)
    np.testing.assert_array_equal(again.labels, scores.labels)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": np.zeros(3, int)}, r"shapes \(\(4,\), \(3,\), \(4, 3\), \(3,\)\)"),
        ({"probabilities": np.ones((4, 2))}, r"expected \(N,\), \(N,\), \(N, K\), \(K,\)"),
        ({"labels": np.full(4, 3)}, "labels beyond its 3 classes"),
        ({"labels": np.full(4, -1)}, "labels beyond its 3 classes"),
        ({"probabilities": np.full((4, 3), np.nan)}, "no probability"),
        ({"probabilities": np.full((4, 3), -0.1)}, "no probability"),
        ({"names": np.array(["a"] * 4)}, "kinds 'UifU'"),
        ({"names": np.array([{}] * 4)}, "expected a plain dtype|expected plain numbers"),
    ],
)
def test_damaged_scores_are_told(tmp_path, change, message):
    sound = {
        "names": np.array([b"a"] * 4),
        "labels": np.zeros(4, int),
        "probabilities": np.full((4, 3), 1 / 3),
        "classes": np.array(["x", "y", "z"]),
    }
    np.savez(tmp_path / "scores.npz", **(sound | change))
    with pytest.raises(ValueError, match=message) as error:
        Scores.open(tmp_path / "scores.npz")
    assert "make it again with 'last evaluate'" in str(error.value)


def test_a_file_cut_short_is_told(tmp_path):
    path = write_scored_run(tmp_path / "a", sure(LABELS), LABELS) / "scores.npz"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ValueError, match="make it again"):
        Scores.open(path)
    path.unlink()
    with pytest.raises(ValueError, match="there are no scores at"):
        Scores.open(path)


def test_the_command(two, tmp_path, capsys):
    out = tmp_path / "fused"
    assert main(["fuse", *map(str, two), "--weights", "3.0000001", "3.0000001", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    rows = {line.split()[0]: line for line in printed.splitlines() if line.strip()}
    assert "1,500" in rows["fusion"] and "75.00" in rows["fusion"]
    assert "50.00" in rows["a"] and "50.00" in rows["b"]
    assert "mean class" in rows["run"] and "top-5" not in rows["run"]  # of three classes
    command = json.loads((out / "result.json").read_text())["command"]
    assert command == f"last fuse {two[0]} {two[1]} --weights 3.0000001 3.0000001 --mean-of probabilities --out {out}"

    assert main(["fuse", *map(str, two), "--weights", "1"]) == 1
    assert "1 weights for 2 networks" in capsys.readouterr().err.replace("\n", " ")
