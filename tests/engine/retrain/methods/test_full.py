"""Full fine-tuning: every weight moves, and a whole model is kept."""

from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.helpers.methods import Done


@pytest.mark.trains
def test_full_fine_tuning_leaves_a_whole_model(done: Callable[..., Done]) -> None:
    run = done("full")
    assert not run.folder.adapter.exists()
    model = AutoModelForSequenceClassification.from_pretrained(run.folder.merged)
    torch.testing.assert_close(run.logits_of(model), run.logits)
    before = run.plain_base().state_dict()
    same = [n for n, value in model.state_dict().items() if n in before and torch.equal(value, before[n])]
    assert all("position" in n or "key.bias" in n for n in same), "every weight that the loss sees has moved"
    assert AutoTokenizer.from_pretrained(run.folder.merged).pad_token == "<pad>"
