"""The base model inside a model with a head, also in code of a repository's own."""

from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn
from transformers import BertForSequenceClassification, BertModel

from configs.schema import ModelConfig
from problems.models.body import body_of
from problems.models.load import load_base


class Renamed(BertForSequenceClassification):
    """Says that its body is called `model`, and calls it `bert`, as some remote code does."""

    base_model_prefix = "model"


def test_the_body_is_the_named_one_or_the_child_that_is_a_model(model_folder: Callable[..., Path]) -> None:
    folder = model_folder("bert")
    assert body_of(BertForSequenceClassification.from_pretrained(folder)) == "bert"
    assert body_of(Renamed.from_pretrained(folder)) == "bert"
    assert body_of(BertModel.from_pretrained(folder)) == ""
    assert body_of(nn.Linear(1, 1)) == ""


@pytest.mark.parametrize("kind", [BertForSequenceClassification, Renamed])
def test_the_body_is_not_taken_for_the_head(
    model_folder: Callable[..., Path], tmp_path: Path, kind: type
) -> None:  # fmt: skip
    """It would have been trained whole, as the task head is."""
    BertForSequenceClassification.from_pretrained(model_folder("bert")).save_pretrained(tmp_path)
    base = load_base(ModelConfig(name=str(tmp_path)), kind, num_labels=2)
    assert base.trained_whole == ["classifier"]
