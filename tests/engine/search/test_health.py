"""Numbers going wrong: steps that are not finite are left out and counted; too many end the
search."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.disk import checkpoint
from autolora.engine.disk.files import read_json_lines
from autolora.engine.search.searched import Trajectory
from autolora.problems.bilevel import LoraProblem, SelectionProblem
from tests.helpers.searching import spoil
from tests.helpers.stages import Stages

pytestmark = pytest.mark.trains

Config = Callable[..., RunConfig]
Run = Callable[..., Stages]


def test_a_bad_inner_step_has_no_loss_and_is_counted(
    tiny_config: Config, run_of: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, LoraProblem, {3, 4}, math.inf)
    run = run_of(tiny_config("--search.log_every", "1"))
    run.search()
    lines = read_json_lines(run.folder.search_metrics)
    assert [line["skipped_steps"] for line in lines] == [0, 0, 1, 2, 2, 2]
    assert [line["train_loss"] is None for line in lines] == [
        False,
        False,
        True,
        True,
        False,
        False,
    ]


def test_a_bad_outer_step_leaves_alpha_and_is_counted(
    tiny_config: Config, run_of: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line is about two steps: of the first line one is bad, of the second line both."""
    spoil(monkeypatch, SelectionProblem, {1, 3, 4}, math.nan)
    run = run_of(tiny_config("--search.log_every", "2"))
    run.search()
    found = Trajectory.read(run.folder.trajectory)
    assert [bool((after != before).any()) for before, after in pairwise(found.alpha)] == [
        True,
        False,
        True,
    ]
    assert (found.contribution[2] != found.contribution[1]).any(), "the inner steps go on"
    lines = read_json_lines(run.folder.search_metrics)
    assert [line["skipped_steps"] for line in lines] == [1, 3, 3]
    assert [line["val_loss"] is None for line in lines] == [False, True, False]
    assert all(math.isfinite(line["train_loss"]) for line in lines)


def test_too_many_stop_the_search_with_the_last_checkpoint_kept_and_the_count_goes_on_from_it(
    tiny_config: Config, run_of: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        "--search.steps", "10", "--search.log_every", "1", "--search.max_bad_steps", "3"
    )
    run = run_of(config)
    with monkeypatch.context() as patch:
        spoil(patch, LoraProblem, set(range(3, 99)), math.nan)
        with pytest.raises(
            UserError, match=r"^--search.max_bad_steps: by step \d .*\(0\.01\).*\(0\.05\)"
        ) as error:
            run.search()
    assert "\n" not in str(error.value)
    found = checkpoint.load(run.folder.search_checkpoint)
    assert found is not None
    weights = [weight for problem in found["problems"].values() for weight in problem["weights"]]
    assert weights
    assert all(weight.isfinite().all() for weight in weights)
    assert not run.folder.search_summary.exists()
    run_of(config).search()
    skipped = {
        line["step"]: line["skipped_steps"] for line in read_json_lines(run.folder.search_metrics)
    }
    assert skipped[2] == 0
    assert skipped[4] == skipped[10] == 2
