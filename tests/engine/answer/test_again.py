"""Another answer from the search of another run, which must fit and is not repeated."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from safetensors.torch import load_file

from configs.errors import UserError
from configs.parser import parse
from engine import ranks
from engine.run.interrupt import StopRequest
from engine.stages import run_stages


def test_another_answer_comes_from_the_same_search(
    make_argv: Callable[..., list[str]], tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = [*make_argv(tmp_path), "--search.steps", "20", "--answer.rule", "size", "--answer.budget", "1"]
    argv += ["--answer.rows", "0"]
    first = run_stages(parse([*argv, "--name", "a"]), StopRequest())
    monkeypatch.setattr("engine.stages.search", lambda *_: pytest.fail("searched again"))
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
    assert json.loads(second.metrics.read_text())["steps"]["search"] == 20
    # In a file, too; and what does not fit is refused before anything is written.
    (tmp_path / "again.yaml").write_text(f"answer: {{from: {first.root}, rule: size, budget: 0.5}}")
    assert parse(["--config", str(tmp_path / "again.yaml")]).config.answer.from_run == str(first.root)
    with pytest.raises(UserError, match=r"--search\.constraint: .*/a was searched with 'softmax'"):
        run_stages(parse([*again, "--name", "c", "--search.constraint", "sigmoid"]), StopRequest())
    with pytest.raises(UserError, match=r"--answer\.from: .* has no search/summary\.json"):
        run_stages(parse([*again, "--name", "c", "--answer.from", str(tmp_path)]), StopRequest())
    assert not (tmp_path / "runs" / "c").exists()
    with pytest.raises(UserError, match=r"--answer\.from: .* is among the results"):
        run_stages(parse([*again, "--name", "b", "--answer.from", str(second.root), "--overwrite"]), StopRequest())
