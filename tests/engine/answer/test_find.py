"""Ranks come from a search, or from the copy of one, and then from the answer; a finished search is not repeated."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine.answer import find
from autolora.engine.answer.find import find_ranks
from autolora.engine.run.folder import RunFolder
from autolora.engine.tracking import NOWHERE
from autolora.problems.machine.processes import ALONE


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """run(source): what `find_ranks` calls, in its order, for a run with this answer.from."""

    def call(source: str | None = None) -> list[str]:
        said: list[str] = []
        bench: Any = SimpleNamespace(
            config=SimpleNamespace(answer=SimpleNamespace(from_run=source)), folder=RunFolder(tmp_path),
            processes=ALONE, compute=SimpleNamespace(let_go=lambda: said.append("let go")),
        )  # fmt: skip

        def works(name: str) -> Callable[..., None]:
            def work(*given: Any) -> None:
                assert given in ((bench, NOWHERE), (bench,))
                said.append(name)

            return work

        for name in ("search", "take_over", "answer"):
            monkeypatch.setattr(find, name, works(name))
        find_ranks(bench)
        return said

    return call


def test_the_answer_follows_the_search_and_gets_its_memory(run: Callable[..., list[str]]) -> None:
    assert run() == ["search", "let go", "answer"]


def test_with_answer_from_the_search_is_copied(run: Callable[..., list[str]]) -> None:
    assert run("runs/a") == ["take_over", "let go", "answer"]


@pytest.mark.parametrize("source", [None, "runs/a"])
def test_a_finished_search_is_only_answered(run: Callable[..., list[str]], tmp_path: Path, source: str | None) -> None:
    summary = RunFolder(tmp_path).search_summary
    summary.parent.mkdir()
    summary.touch()
    assert run(source) == ["let go", "answer"]


def test_a_search_that_fails_has_no_answer(
    run: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fails(*_: Any) -> None:
        raise UserError("no")

    monkeypatch.setattr(find, "search", fails)
    monkeypatch.setattr(find, "answer", lambda *_: pytest.fail("answered"))
    bench: Any = SimpleNamespace(
        config=SimpleNamespace(answer=SimpleNamespace(from_run=None)), folder=RunFolder(tmp_path), processes=ALONE
    )
    with pytest.raises(UserError, match="no"):
        find_ranks(bench)
