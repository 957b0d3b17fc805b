"""METEOR's Java process: its scores, its end, and two at once."""

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from autolora.configs.errors import UserError
from autolora.problems.scoring.meteor import Meteor

pytestmark = pytest.mark.usefixtures("java")


@pytest.fixture
def started(monkeypatch):
    """Every process that was started."""
    processes, start = [], subprocess.Popen

    def popen(*arguments, **options):
        processes.append(start(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)
    return processes


@pytest.mark.slow
def test_scores_and_hard_text(monkeypatch):
    """One process for all: starting it takes seconds."""
    monkeypatch.setenv("LC_ALL", "C")  # must not change how text is read
    with Meteor() as meteor:
        one = meteor.corpus([meteor.segment("the cat sat on the mat", ["a dog", "the cat sat on the mat"])])
        assert one == pytest.approx(1)
        assert meteor.corpus([meteor.segment("", ["the cat"])]) == 0
        # Separators and line ends inside a text must not shift what the process takes for what.
        odd = meteor.segment("the ||| cat\tsat\non\rthe mat", ["x ||| y", "the cat sat on the mat"])
        assert meteor.corpus([odd]) == pytest.approx(1)
        accent = [meteor.corpus([meteor.segment("naïve café 北京", [ref])]) for ref in ("naïve café 北京", "x y z")]
        assert accent == [pytest.approx(1), 0]
        # A corpus score is of the summed statistics.
        parts = [meteor.segment("a b c d", ["a b c d"]), meteor.segment("x", ["y z"])]
        assert 0 < meteor.corpus(parts) < 1
        assert meteor.corpus(parts[:1]) == pytest.approx(1)
        assert meteor.segment("a b", ["a b", "b a"]) == meteor.segment("a b", ["b a", "a b"])
        assert meteor.segment("a b", ["a b", ""]) == meteor.segment("a b", ["a b"])


@pytest.mark.trains
def test_process_ends_with_an_error_too(started):
    meteor = Meteor()
    with pytest.raises(KeyboardInterrupt), meteor:
        raise KeyboardInterrupt
    assert [process.poll() is None for process in started] == [False]


@pytest.mark.slow
def test_a_process_that_died_is_one_line(started):
    with Meteor() as meteor:
        (process,) = started
        process.kill()
        process.wait()
        with pytest.raises(UserError, match="METEOR: its Java process stopped"):
            meteor.segment("a", ["a"])


@pytest.mark.slow
def test_two_at_once_do_not_meet():
    """The two texts differ in one word, so each process alone gives the same 0.38; a mixed-up answer gives 0.20."""

    def run(word):
        with Meteor() as meteor:
            return meteor.corpus([meteor.segment(f"{word} is here", [f"{word} is here now"]) for _ in range(20)])

    with ThreadPoolExecutor() as pool:
        paris, london = pool.map(run, ["paris", "london"])
    assert paris == london > 0.3
