"""The loss of a language model is the recipe's, on the tokens of answers alone."""

import pytest
import torch
from torch import nn

from autolora.configs.tasks import Chat
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.template import PLAIN, Template
from tests.helpers.chat_toys import TURNS
from tests.helpers.generation_toys import make_causal, make_tokenizer


@pytest.mark.parametrize("smoothing", [None, 0.0, 0.3])
def test_the_loss_is_that_of_the_recipe(float64: None, smoothing: float | None) -> None:
    """(1 - s) nll + s mean_v -log p, over the answer's tokens; without gradients plain nll, which the model has."""
    tokenizer = make_tokenizer()
    model = make_causal("gpt2", len(tokenizer)).double()
    found, learned = Template(tokenizer, PLAIN).labelled(TURNS[:2], [1])
    ids, labels = torch.tensor([found]), torch.tensor([learned])
    config = Chat(type="chat", format="e2e", path="x", metrics=["bleu"], label_smoothing=smoothing)
    Conversations(config, 0).adapt(model)
    share = 0.1 if smoothing is None else smoothing
    places = [place for place, label in enumerate(learned) if label != -100]
    logs = nn.functional.log_softmax(model(input_ids=ids).logits, dim=-1)[0, [place - 1 for place in places]]
    nll = -logs[torch.arange(len(places)), ids[0, places]].mean()
    expected = (1 - share) * nll - share * logs.mean()
    torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, expected, rtol=1e-6, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, nll, rtol=1e-6, atol=0)
