"""The result of a search for a script."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from peft import get_peft_model

from autolora.engine.api import AnswerConfig
from autolora.problems.models.attach import lora_layers
from tests.helpers.api import classifier, learn
from tests.helpers.exports import of_mean_rank, scales_of

pytestmark = pytest.mark.trains


def test_the_result_trains_at_the_ranks(model_folder: Callable[..., Path]) -> None:
    learned = learn(classifier(model_folder("bert")), answer=AnswerConfig(rule="size", budget=1.0))
    assert set(learned.ranks.values()) != {4}
    model: Any = get_peft_model(classifier(model_folder("bert")), learned.lora_config)
    kept = {name: rank for name, rank in learned.ranks.items() if rank}
    assert {name: layer.r["default"] for name, layer in lora_layers(model).items()} == kept
    given = learned.config.lora
    assert scales_of(model) == of_mean_rank(kept, given.lora_alpha, given.k)
    assert set(learned.ranks) == {layer.name for layer in learned.record.layers}
    assert "ranks by size: mean" in str(learned)


def test_by_default_shares_choose_the_ranks(model_folder: Callable[..., Path]) -> None:
    assert learn(classifier(model_folder("bert"))).record.rule == "shares"
