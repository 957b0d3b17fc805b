"""The commit that a run's numbers belong to."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from autolora.engine.run import program
from autolora.engine.run.program import commit, told_of_commits


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    commit.cache_clear()
    yield
    commit.cache_clear()


def git(folder: Path, *words: str) -> str:
    named = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", *named, *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.trains
def test_a_changed_file_shows_and_an_untracked_one_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "ROOT", tmp_path)
    git(tmp_path, "init", "-q")
    (tmp_path / "run.py").write_text("1")
    git(tmp_path, "add", "run.py")
    git(tmp_path, "commit", "-q", "-m", "a")
    head = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    (tmp_path / "train.csv").write_text("a,b")
    assert commit() == head
    (tmp_path / "run.py").write_text("2")
    assert commit() == head, "a process keeps the program that it has loaded"
    commit.cache_clear()
    assert commit() == f"{head}+"


@pytest.mark.trains
def test_outside_a_repository_or_without_git_it_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert commit() is None
    commit.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit() is None


def test_several_commits_are_named_with_their_runs() -> None:
    assert told_of_commits(["a", "a"], "runs") == ""
    assert told_of_commits([], "runs") == ""
    assert told_of_commits(["a", None, "a"], "trainings") == (
        "The trainings were made at 2 commits of this program, so that they may differ by more than their settings: "
        "a (2 runs), unknown (1 run)."
    )
