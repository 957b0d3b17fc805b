"""Numbers going wrong: steps that are not finite are left out and counted; doubtful ranks are spoken of."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.disk import checkpoint
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.search.health import (
    warn_about,
    warn_about_missing_classes,
)
from autolora.engine.search.hook import SearchHook
from autolora.engine.search.stage import search
from autolora.engine.search.trajectory import Trajectory
from autolora.engine.tracking.metrics_file import MetricsFile
from autolora.problems.lora import LoraProblem
from autolora.problems.selection import SelectionProblem
from tests.helpers.searching import spoil

State = dict[int, tuple[list[Tensor], Tensor]]


@pytest.fixture
def states(monkeypatch: pytest.MonkeyPatch) -> State:
    """Step -> (W, beta) after it."""
    kept: State = {}
    original = SearchHook.after_step

    def after_step(self: SearchHook, engine: Any) -> bool:
        beta = engine.selection.module.beta.detach().clone()
        kept[engine.global_step] = ([p.detach().clone() for p in engine.lora.trained], beta)
        return original(self, engine)

    monkeypatch.setattr(SearchHook, "after_step", after_step)
    return kept


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.trains
@pytest.mark.parametrize("kind", ["darts", "sama", "first_order", "forward_difference"])
@pytest.mark.parametrize("factor", [math.nan, math.inf])
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
        assert torch.equal(states[step][1], states[2][1])
    assert not same(states[5][0], states[4][0])
    assert not torch.equal(states[6][1], states[4][1])
    lines = MetricsFile(run.folder.search_metrics).read()
    assert [line["skipped_steps"] for line in lines] == [0, 0, 1, 2, 2, 2]
    assert [line["train_loss"] is None for line in lines] == [False, False, True, True, False, False]


@pytest.mark.trains
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
    (line,) = MetricsFile(run.folder.search_metrics).read()
    assert line["skipped_steps"] == 2
    assert math.isfinite(line["train_loss"])
    assert math.isfinite(line["val_loss"])


@pytest.mark.trains
def test_too_many_stop_the_search_with_the_last_checkpoint_kept(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, LoraProblem, set(range(3, 99)), math.nan)
    config = tiny_config("--search.steps", "50", "--search.log_every", "1", "--search.max_bad_steps", "3")
    run = run_of(config)
    with pytest.raises(UserError, match=r"^--search.max_bad_steps: by step 6 .*rate is 0\.01.*0\.05") as error:
        search(run)
    assert "\n" not in str(error.value)
    found = checkpoint.load(run.folder.search_checkpoint)
    assert found is not None
    weights = [weight for problem in found["problems"].values() for weight in problem["weights"]]
    assert weights
    assert all(weight.isfinite().all() for weight in weights)
    assert not run.folder.search_summary.exists()


@pytest.mark.trains
def test_with_a_fixed_alpha_the_rate_of_beta_is_not_blamed(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, LoraProblem, set(range(3, 99)), math.nan)
    run = run_of(tiny_config("--hypergradient.type", "none", "--search.max_bad_steps", "1"))
    with pytest.raises(
        UserError, match=r"; --search\.learning_rate is 0\.01: lower it, or try more --search\.warmup_ratio"
    ):
        search(run)


@pytest.mark.trains
def test_the_count_goes_on_after_a_resume(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch,
    stop_at: Callable[[int], None],
) -> None:  # fmt: skip
    spoil(monkeypatch, LoraProblem, {2, 5}, math.nan)
    config = tiny_config()
    stop_at(3)
    with pytest.raises(Interrupted):
        search(run_of(config))
    stop_at(0)
    again = run_of(config)
    search(again)
    assert MetricsFile(again.folder.search_metrics).read()[-1]["skipped_steps"] == 2


@pytest.mark.trains
def test_outer_steps_that_were_skipped_before_a_stop_are_spoken_of_too(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch,
    log_lines: list[str], stop_at: Callable[[int], None],
) -> None:  # fmt: skip
    spoil(monkeypatch, SelectionProblem, {1, 3, 5}, math.nan)
    stop_at(4)
    with pytest.raises(Interrupted):
        search(run_of(tiny_config()))
    stop_at(0)
    search(run_of(tiny_config()))
    assert any(line.startswith("WARNING alpha moved in 3 of 6 outer steps") for line in log_lines)


def trajectory_of(points: list[list[list[float]]]) -> Trajectory:
    alpha = [np.array(point, dtype=np.float32) for point in points]
    return Trajectory([f"layer{i}" for i in range(len(points[0]))], list(range(len(points))), alpha, alpha)


EVEN, ONE, HALF = [0.25] * 4, [0.997, 0.001, 0.001, 0.001], [0.4, 0.4, 0.1, 0.1]


@pytest.mark.parametrize(
    ("points", "warnings"),
    [
        ([[EVEN] * 3, [ONE, ONE, HALF]], ["alpha has collapsed: one component is above 0.99 in 2 of 3 layers"]),
        ([[EVEN] * 3, [ONE, HALF, HALF]], []),
        ([[EVEN] * 3, [EVEN] * 3], ["no rank ever changed"]),
        ([[EVEN] * 3, [HALF, EVEN, EVEN], [EVEN] * 3], []),
        ([[[1.0]] * 3, [[1.0]] * 3], []),
    ],
    ids=["collapsed", "one collapsed", "unchanged", "there and back", "k = 1"],
)
def test_doubtful_ranks_log_a_warning(
    tiny_config: Callable[..., RunConfig], log_lines: list[str], points: Any, warnings: list[str]
) -> None:
    warn_about(trajectory_of(points), tiny_config())
    assert len(log_lines) == len(warnings)
    for line, start in zip(log_lines, warnings, strict=True):
        assert line.startswith(f"WARNING {start}")


@pytest.mark.parametrize(("steps", "advice"), [("1", "--search.steps (now 1)"), ("9", "--search.patience (now 7)")])
def test_a_search_that_patience_ended_is_not_told_to_take_more_steps(
    tiny_config: Callable[..., RunConfig], log_lines: list[str], steps: str, advice: str
) -> None:
    config = tiny_config("--search.steps", steps, "--search.patience", "7", "--search.unroll_steps", "1")
    warn_about(trajectory_of([[EVEN] * 3, [EVEN] * 3]), config)
    (line,) = log_lines
    assert line.endswith(f"or {advice}")


@pytest.mark.trains
def test_losses_that_are_not_finite_end_a_search_that_logs_no_line_before_its_ranks_settle(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The search ended as settled, since bad steps were counted only at logged ones."""
    spoil(monkeypatch, LoraProblem, set(range(3, 99)), math.nan)
    settles = ("--search.check_every", "2", "--search.patience", "2", "--search.log_every", "1000")
    run = run_of(tiny_config("--search.steps", "50", "--search.max_bad_steps", "3", "--precision", "fp32", *settles))
    with pytest.raises(UserError, match=r"^--search\.max_bad_steps: by step \d+ ") as error:
        search(run)
    assert "--precision" not in str(error.value), "it has fp32 already"
    assert "--search.gradient_clipping" not in str(error.value), "gradients are clipped at 1 already"


@pytest.mark.trains
def test_a_search_whose_alpha_stood_still_gets_one_advice(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch,
    log_lines: list[str],
) -> None:  # fmt: skip
    """It was told to lower the rate of beta, and to raise it."""
    spoil(monkeypatch, SelectionProblem, set(range(99)), math.nan)
    search(run_of(tiny_config()))
    advice = [line for line in log_lines if "--search.selection_learning_rate" in line]
    assert [line.startswith("WARNING alpha moved in 0 of ") for line in advice] == [True]


@pytest.mark.trains
def test_a_whole_run_warns(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], log_lines: list[str], tmp_path: Path
) -> None:
    run = run_of(tiny_config("--search.selection_learning_rate", "1e-12", "--search.steps", "2"))
    search(run)
    assert RunFolder(tmp_path / "runs" / "tiny").search_summary.exists()
    assert any(line.startswith("WARNING no rank ever changed") for line in log_lines)


@pytest.mark.trains
@pytest.mark.parametrize(
    ("problem", "bad", "said"),
    [
        (
            SelectionProblem,
            {1, 2, 3, 4, 5, 6},
            "alpha moved in 0 of 6 outer steps, so the ranks are still those of the",
        ),
        (
            LoraProblem,
            {1, 2, 3, 4, 5, 6},
            "alpha moved in 0 of 6 outer steps, so the ranks are still those of the start",
        ),
        (SelectionProblem, {1, 3, 5}, "alpha moved in 3 of 6 outer steps: in the others a loss or gradient was not"),
        (SelectionProblem, {1, 3}, None),
    ],
)
def test_outer_steps_that_were_skipped_are_spoken_of_at_the_end(
    tiny_config: Callable[..., RunConfig],
    run_of: Callable[..., Context],
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[str],
    problem: type,
    bad: set[int],
    said: str | None,
) -> None:
    spoil(monkeypatch, problem, bad, math.nan)
    search(run_of(tiny_config()))
    found = [line for line in log_lines if "outer steps" in line]
    assert len(found) == (said is not None)
    assert all(line.startswith(f"WARNING {said}") for line in found)


def test_a_class_that_one_part_lacks_is_spoken_of(log_lines: list[str]) -> None:
    labels, names = [0, 0, 1, 2, 1, 0], {0: "bad", 1: "good", 2: "mixed"}
    d_tr, d_val = np.array([0, 2, 3]), np.array([1, 4, 5])
    warn_about_missing_classes(labels, d_tr, d_val, names)
    assert log_lines == [
        "WARNING D_val has no example of class mixed: give more rows, another --seed or --task.validation_share"
    ]
    warn_about_missing_classes([0.5, 1.5, 2.5], d_tr[:1], d_val[:1], {})  # numbers, no classes
    assert len(log_lines) == 1


def test_a_tag_that_one_part_lacks_is_spoken_of(log_lines: list[str]) -> None:
    labels, names = [[-100, 0, 1], [0, -100], [0, 1, 2]], {0: "O", 1: "B-X", 2: "I-X"}
    warn_about_missing_classes(labels, np.array([0, 2]), np.array([1]), names)
    assert [line[:54] for line in log_lines] == ["WARNING D_val has no example of class B-X, I-X: give m"]
