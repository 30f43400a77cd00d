"""Labels in doubt: the confident joint by hand, runs joined, and the command."""

import numpy as np
import pytest

from last.cli import main
from last.doubt import find_doubts, join
from last.evaluate import Scores
from last.run import RunError
from last.scored_run import ScoredRun
from scored_runs import CLASSES, sure, write_scored_run


def scores(probabilities, labels):
    names = np.array([f"clip{i}".encode() for i in range(len(labels))])
    return Scores(names, np.array(labels), np.array(probabilities, np.float32), CLASSES)


def test_each_class_is_held_to_its_own_mean_probability():
    # Thresholds: wave (0.9 + 0.9 + 0.5 + 0.1) / 4 = 0.6; sit (0.4 + 0.4) / 2 = 0.4; fall has no clip, so none.
    found = find_doubts(
        scores(
            [
                [0.9, 0.1, 0.0],
                [0.9, 0.05, 0.05],
                [0.5, 0.45, 0.05],  # not sure of wave; sure of sit, though wave is more probable
                [0.1, 0.3, 0.6],  # fall has no threshold, sit is below its own
                [0.58, 0.4, 0.02],  # wave is below its threshold, so that sit stands
                [0.59, 0.4, 0.01],
            ],
            [0, 0, 0, 0, 1, 1],
        )
    )
    assert [(doubt.clip, doubt.label, doubt.suggested) for doubt in found] == [("clip2", "wave", "sit")]
    assert (found[0].given, found[0].seen) == (pytest.approx(0.5), pytest.approx(0.45))


def test_labels_that_were_changed_are_found_the_surest_first():
    true = [0, 1, 2] * 10
    given = list(true)
    given[4], given[9] = 2, 1
    confidence = [0.8] * 30
    confidence[9] = 0.95
    found = find_doubts(scores(sure(true, confidence), given))
    assert [(doubt.clip, doubt.label, doubt.suggested) for doubt in found] == [
        ("clip9", "sit", "wave"),
        ("clip4", "fall", "sit"),
    ]


def test_a_clip_of_several_runs_has_the_mean_of_its_probabilities(tmp_path):
    one = write_scored_run(tmp_path / "one", [[0.8, 0.2, 0.0], [0.1, 0.9, 0.0]], [0, 1])
    other = write_scored_run(tmp_path / "other", [[0.4, 0.2, 0.4]], [0])
    joined = join([ScoredRun.open(one), ScoredRun.open(other)])
    assert joined.names.tolist() == [b"clip0", b"clip1"] and joined.labels.tolist() == [0, 1]
    np.testing.assert_allclose(joined.probabilities, [[0.6, 0.2, 0.2], [0.1, 0.9, 0.0]], atol=1e-6)


def test_runs_that_do_not_agree_on_labels_or_classes_are_refused(tmp_path):
    one = ScoredRun.open(write_scored_run(tmp_path / "one", sure([0, 1]), [0, 1]))
    relabelled = ScoredRun.open(write_scored_run(tmp_path / "two", sure([0, 1]), [0, 2]))
    renamed = ScoredRun.open(write_scored_run(tmp_path / "three", sure([0]), [0], ("wave", "sit", "jump")))
    with pytest.raises(RunError, match="clip 'clip1' has the label 'sit' in one run and 'fall' in another"):
        join([one, relabelled])
    with pytest.raises(RunError, match="class 2 is 'fall' in the first and 'jump' in the second"):
        join([one, renamed])


def test_the_command_names_clips_and_how_to_look_at_them(tmp_path, capsys):
    true = [0, 1, 2] * 10
    given = list(true)
    given[4], given[9] = 2, 1
    run = write_scored_run(
        tmp_path / "run", sure(true, 0.8), given, config={"data": {"path": "my store", "name": "toy"}}
    )
    assert main(["doubt", str(run), "--top", "1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "clip4 fall 10.00 sit 80.00" in said and "clip9" not in said
    assert "2 of 30 labels are in doubt; --top 2 prints all" in said
    assert "last data show 'my store' --clip clip4 --out clip.html" in said
    clean = write_scored_run(tmp_path / "clean", sure(true, 0.8), true)
    assert main(["doubt", str(clean)]) == 0
    assert capsys.readouterr().out == "no label in doubt among 30 clips\n"
