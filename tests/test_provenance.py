"""A process goes on with the code that it loaded, and so does its commit."""

import subprocess

import pytest

from last import provenance


@pytest.fixture
def git(monkeypatch):
    answers = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, **how: subprocess.CompletedProcess(command, 0, stdout=answers.pop(0))
    )
    provenance.commit.cache_clear()
    yield answers
    provenance.commit.cache_clear()


def test_a_commit_made_meanwhile_is_not_that_of_the_process(git):
    git += ["d2b45cb68cde\n", "81a0596930c0\n"]
    assert provenance.commit() == provenance.commit()
    assert git == ["81a0596930c0\n"]
