"""Numbers going wrong: steps that are not finite are left out and counted; too many end the search."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.disk import checkpoint
from autolora.engine.disk.files import read_json_lines
from autolora.engine.run.context import Context
from autolora.engine.search.search import SearchHook, search
from autolora.problems.bilevel import LoraProblem, SelectionProblem
from tests.helpers.searching import spoil

pytestmark = pytest.mark.trains

State = dict[int, tuple[list[Tensor], Tensor]]


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> State:
    """Step -> (W, beta) after it."""
    kept: State = {}
    original = SearchHook.after_step

    def after_step(self: SearchHook, engine: Any, over: bool) -> None:
        beta = engine.selection.module.beta.detach().clone()
        kept[engine.global_step] = ([p.detach().clone() for p in engine.lora.trained], beta)
        original(self, engine, over)

    monkeypatch.setattr(SearchHook, "after_step", after_step)
    return kept


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize(("kind", "factor"), [("darts", math.nan), ("first_order", math.inf)])
def test_a_bad_inner_step_moves_nothing_and_is_counted(
    tiny_config: Callable[..., RunConfig],
    run_of: Callable[..., Context],
    states: State,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    factor: float,
) -> None:
    spoil(monkeypatch, LoraProblem, {3, 4}, factor)
    run = run_of(tiny_config("--hypergradient.type", kind, "--search.log_every", "1"))
    search(run)
    for step in (3, 4):
        assert same(states[step][0], states[2][0])
    assert not same(states[5][0], states[4][0])
    assert not torch.equal(states[6][1], states[4][1])
    lines = read_json_lines(run.folder.search_metrics)
    assert [line["skipped_steps"] for line in lines] == [0, 0, 1, 2, 2, 2]
    assert [line["train_loss"] is None for line in lines] == [False, False, True, True, False, False]


def test_a_bad_outer_step_leaves_beta_and_is_counted(
    tiny_config: Callable[..., RunConfig],
    run_of: Callable[..., Context],
    states: State,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spoil(monkeypatch, SelectionProblem, {1, 3}, math.nan)
    run = run_of(tiny_config("--search.log_every", "6"))
    search(run)
    assert torch.equal(states[3][1], states[2][1])
    assert not same(states[3][0], states[2][0])
    (line,) = read_json_lines(run.folder.search_metrics)
    assert line["skipped_steps"] == 2
    assert math.isfinite(line["train_loss"])
    assert math.isfinite(line["val_loss"])


def test_too_many_stop_the_search_with_the_last_checkpoint_kept_and_the_count_goes_on_from_it(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config("--search.steps", "10", "--search.log_every", "1", "--search.max_bad_steps", "3")
    run = run_of(config)
    with monkeypatch.context() as patch:
        spoil(patch, LoraProblem, set(range(3, 99)), math.nan)
        with pytest.raises(UserError, match=r"^--search.max_bad_steps: by step \d .*\(0\.01\).*\(0\.05\)") as error:
            search(run)
    assert "\n" not in str(error.value)
    found = checkpoint.load(run.folder.search_checkpoint)
    assert found is not None
    weights = [weight for problem in found["problems"].values() for weight in problem["weights"]]
    assert weights
    assert all(weight.isfinite().all() for weight in weights)
    assert not run.folder.search_summary.exists()
    search(run_of(config))
    skipped = {line["step"]: line["skipped_steps"] for line in read_json_lines(run.folder.search_metrics)}
    assert skipped[2] == 0
    assert skipped[4] == skipped[10] == 2
