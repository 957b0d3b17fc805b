"""A training whose loss is no number is stopped before anything of it is saved."""

import dataclasses
import math
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.retrain import stage
from autolora.engine.retrain.trainer import RetrainTrainer
from autolora.engine.run.context import Context
from tests.helpers.retraining import FEW, retrain, with_ranks
from tests.helpers.searching import find_ranks


@pytest.mark.trains
@pytest.mark.parametrize("steps", ["1", "2"])  # after the only step nothing but the evaluation meets the new weights
def test_a_rate_that_makes_the_loss_no_number_is_named_and_nothing_is_exported(
    tiny_config: Callable[..., RunConfig], steps: str
) -> None:
    bare = ("--retrain.warmup_ratio", "0", "--retrain.gradient_clipping", "0")
    config, folder = with_ranks(tiny_config(*FEW, *bare, "--retrain.max_steps", steps))
    # Above what the command line takes, so that the loss is no number for certain.
    config = dataclasses.replace(config, retrain=dataclasses.replace(config.retrain, learning_rate=1e38))
    with pytest.raises(UserError, match=r"^--retrain\.learning_rate: .*not finite at rate 1e\+38"):
        retrain(config)
    assert not folder.metrics.exists()
    assert not folder.adapter.exists()
    shutil.rmtree(folder.root)


@pytest.mark.trains
def test_a_retraining_without_a_finite_loss_stops_before_it_is_saved(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_config("--retrain.max_steps", "8", "--retrain.checkpoint_every", "2"))
    find_ranks(run)
    original = RetrainTrainer.compute_loss

    def compute_loss(self: Any, *args: Any, **kwargs: Any) -> Any:
        loss = original(self, *args, **kwargs)
        return loss * math.nan if self.state.global_step == 4 else loss

    monkeypatch.setattr(RetrainTrainer, "compute_loss", compute_loss)
    with pytest.raises(UserError, match=r"^--retrain.learning_rate: a loss up to step 6 is not finite at rate 0\.001"):
        stage.retrain(run)
    assert sorted(path.name for path in run.folder.retrain.iterdir()) == ["checkpoint-2", "checkpoint-4"]
    assert not run.folder.metrics.exists()
