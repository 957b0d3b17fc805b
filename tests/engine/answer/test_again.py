"""Another answer from the search of another run, which must fit and is not repeated."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.engine import ranks
from autolora.engine.answer import again
from autolora.engine.answer.trust import trust_of
from autolora.engine.disk.files import read_json, write_json
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.search import trajectory
from autolora.engine.stages import run_stages


def test_another_answer_comes_from_the_same_search(
    make_argv: Callable[..., list[str]], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = [*make_argv(tmp_path), "--search.steps", "20", "--answer.rule", "size", "--answer.budget", "1"]
    argv += ["--answer.rows", "0"]
    first = run_stages(parse([*argv, "--name", "a"]), StopRequest(), draw=False)
    monkeypatch.setattr("autolora.engine.answer.find.search", lambda *_: pytest.fail("searched again"))
    again = [
        *argv,
        "--name",
        "b",
        "--answer.from",
        str(first.root),
        "--answer.budget",
        "0.5",
        "--retrain.init",
        "search",
    ]
    second = run_stages(parse(again), StopRequest())
    record, before = ranks.load(second.ranks), ranks.load(first.ranks)
    assert sum(layer.rank for layer in record.layers) == 2
    assert record.evidence == before.evidence
    assert [layer.share for layer in record.layers] == [layer.share for layer in before.layers]
    weights = load_file(second.search_weights)
    assert weights.keys() == load_file(first.search_weights).keys()
    assert second.search_metrics.read_bytes() == first.search_metrics.read_bytes()
    assert second.trajectory.read_bytes() == first.trajectory.read_bytes()
    assert json.loads(second.metrics.read_text())["steps"]["search"] == 20
    # In a file, too; and what does not fit is refused before anything is written.
    (tmp_path / "again.yaml").write_text(f"answer: {{from: {first.root}, rule: size, budget: 0.5}}")
    assert parse(["--config", str(tmp_path / "again.yaml")]).config.answer.from_run == str(first.root)
    with pytest.raises(UserError, match=r"--search\.constraint: .*/a holds a search made with 'softmax'"):
        run_stages(parse([*again, "--name", "c", "--search.constraint", "sigmoid"]), StopRequest())
    with pytest.raises(UserError, match=r"--answer\.from: .* has no search/summary\.json"):
        run_stages(parse([*again, "--name", "c", "--answer.from", str(tmp_path)]), StopRequest())
    assert not (tmp_path / "runs" / "c").exists()
    with pytest.raises(UserError, match=r"--answer\.from: .* is among the results"):
        run_stages(parse([*again, "--name", "b", "--answer.from", str(second.root), "--overwrite"]), StopRequest())


@pytest.fixture
def argv(make_argv: Callable[..., list[str]], tmp_path: Path) -> list[str]:
    """A search without measured shares."""
    more = ("--stage", "search", "--answer.rule", "size", "--answer.rows", "0", "--answer.budget", "1")
    return [*make_argv(tmp_path), *more]


def run(*argv: str) -> RunFolder:
    return run_stages(parse(argv), StopRequest(), draw=False)


@pytest.mark.slow
def test_with_overwrite_a_source_is_refused_as_without(argv: list[str], tmp_path: Path) -> None:
    first = run(*argv, "--name", "a")
    second = run(*argv, "--name", "b")
    before = second.ranks.read_bytes()
    again = [*argv, "--name", "b", "--overwrite", "--answer.from"]
    with pytest.raises(UserError, match=r"--answer\.from: .* has no search/summary\.json"):
        run(*again, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=r"--lora\.k: .*/a holds a search made with 4, now it is 3"):
        run(*again, str(first.root), "--lora.k", "3")
    assert second.ranks.read_bytes() == before
    assert not second.source_ranks.exists()
    assert run(*again, str(first.root)).source_ranks.exists()


def test_what_a_folder_holds_of_its_own_is_not_mixed_with_a_source(
    argv: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, own = run(*argv, "--name", "a"), run(*argv, "--name", "own")
    expected = own.ranks.read_bytes()
    for path in (own.ranks, own.answer):
        path.unlink()
    with pytest.raises(UserError, match=r"--answer\.from: .*/own holds a finished search of its own; leave it out"):
        run(*argv, "--name", "own", "--answer.from", str(first.root))
    write_json(first.answer, read_json(first.answer) | {"seconds": 1000.0})
    run(*argv, "--name", "own", "--overwrite", "--answer.from", str(first.root))
    assert read_json(own.answer)["seconds"] > 1000, "the measurement of the other run counts, as its search does"
    assert own.ranks.read_bytes() == expected  # of the same seed
    # A search that was taken over needs its source no more.
    taken = [*argv, "--name", "taken", "--answer.from", str(first.root)]
    monkeypatch.setattr("autolora.engine.answer.find.answer", lambda *_: (_ for _ in ()).throw(Interrupted(130)))
    with pytest.raises(Interrupted):
        run(*taken)
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"--answer\.from: .*/taken holds a search copied from .*/a, now it is .*/own"):
        run(*taken, "--answer.from", str(own.root))  # the ranks had been those of a, and were recorded as those of own
    shutil.rmtree(first.root)
    assert run(*taken).ranks.read_bytes() == expected


@pytest.mark.slow
def test_ranks_by_threshold_after_another_rule_are_as_far_decided_as_the_search(argv: list[str]) -> None:
    steps = ("--search.steps", "40", "--search.log_every", "1", "--search.patience", "0")  # 10 points in a quarter
    first = run(*argv, *steps, "--name", "a")
    assert {layer.decided for layer in ranks.load(first.ranks).layers} == {None}
    threshold = ("--answer.rule", "threshold", "--answer.budget", "auto")
    again = run(*argv, *steps, *threshold, "--name", "b", "--answer.from", str(first.root))
    trust = trust_of(trajectory.read(first.trajectory), "softmax")
    assert tuple(layer.decided for layer in ranks.load(again.ranks).layers) == trust.decided


def test_a_source_from_which_no_such_answer_follows_is_refused_before_anything_is_written(
    argv: list[str], tmp_path: Path
) -> None:
    first = run(*argv, "--name", "a")
    again = [*argv, "--name", "b", "--answer.from", str(first.root)]
    with pytest.raises(UserError, match=r"--answer\.budget: 0\.001 is not allowed for this model"):
        run(*again, "--answer.budget", "0.001")
    with pytest.raises(UserError, match=r"--answer\.from: .* measured no shares"):
        run(*again, "--answer.budget", "auto")
    raw = json.loads(first.ranks.read_text())
    first.ranks.write_text(json.dumps(raw | {"layers": raw["layers"][1:]}))
    with pytest.raises(UserError, match=r"--answer\.from: .*ranks\.json has other layers than its search"):
        run(*again)
    assert not (tmp_path / "runs" / "b").exists()


@pytest.mark.trains
def test_a_copy_that_was_stopped_at_any_file_is_made_again(
    argv: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    first = run(*argv, "--name", "a")
    expected, original = first.ranks.read_bytes(), shutil.copyfile
    for moment in range(6):
        copied: list[Any] = []

        def copy(source: Path, target: Path, moment: int = moment, copied: list[Any] = copied) -> None:
            if len(copied) == moment:
                raise KeyboardInterrupt
            copied.append(original(source, target))

        taken = [*argv, "--name", f"taken-{moment}", "--answer.from", str(first.root)]
        with monkeypatch.context() as patch:
            patch.setattr(again.shutil, "copyfile", copy)
            with pytest.raises(KeyboardInterrupt):
                run(*taken)
        assert run(*taken).ranks.read_bytes() == expected, moment
