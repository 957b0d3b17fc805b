"""The search without outer steps: plain LoRA of rank k on D_tr, by the program's own engine."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from autolora.engine import ranks
from autolora.engine.search.engine import SearchEngine
from autolora.problems.machine.compute import seeded
from autolora.problems.machine.draws import seed_of
from tests.helpers.bilevel_toys import copies, equal
from tests.helpers.stages import Stages

pytestmark = pytest.mark.trains

FIXED = ("--hypergradient.type", "none", "--lora.dropout", "0.1")


@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_the_weights_are_those_of_plain_lora(built: Callable[..., SearchEngine], kind: str) -> None:
    """As torch alone trains it, on the search's own batches: no gates, no Betty."""
    searched = built(*FIXED, kind=kind)
    lora = built(*FIXED, kind=kind).lora
    searched.run()
    model: Any = lora.module.train()
    start = copies(lora.trained)
    for number in range(searched.global_step):
        batch = lora.batches[number]
        lora.optimizer.zero_grad()
        with seeded(seed_of(batch.seed, "masks", 0), torch.device("cpu")):
            loss = model(**batch.parts[0][0]).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(lora.trained, lora.config.gradient_clipping)
        lora.optimizer.step()
        lora.scheduler.step()
    assert not equal(lora.trained, start)
    for found, expected in zip(searched.lora.trained, lora.trained, strict=True):
        torch.testing.assert_close(found, expected)


def test_no_outer_step_is_taken_and_patience_ends_nothing(new_run: Callable[..., Stages]) -> None:
    """By patience a search would stop at step 4. (That alpha stays at its start:
    contract/test_hypergradients.)"""
    run = new_run(*FIXED, "--search.steps", "9", "--search.patience", "1")
    cost = run.find_ranks().cost
    assert cost["steps"] == 9
    assert cost["passes"] == {"forward": 9, "backward": 9}
    assert [layer.rank for layer in ranks.load(run.folder.ranks).layers] == [4] * 4
