"""The loss of a language model: the recipe's, on the tokens of answers alone, and the same in
parts."""

import pytest
import torch
from torch import Tensor, nn

from autolora.configs.tasks import Chat
from autolora.problems.tasks import losses as module
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.losses import token_loss
from autolora.problems.tasks.template import PLAIN, Template
from tests.helpers.chat_toys import TURNS
from tests.helpers.generation_toys import make_causal, make_tokenizer

VOCABULARY = 11


def drawn(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(VOCABULARY, (3, 7))
    labels[0, :4] = -100
    labels[2] = -100
    return torch.randn(3, 7, VOCABULARY, dtype=dtype, requires_grad=True), labels


def plain(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    scores = logits[:, :-1].reshape(-1, VOCABULARY)
    targets = labels[:, 1:].reshape(-1)
    return nn.functional.cross_entropy(scores, targets, label_smoothing=smoothing)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("tokens", [1, 4, 100])
def test_value_and_gradients_are_those_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, tokens: int, smoothing: float
) -> None:
    """Also a gradient of a gradient, which second-order hypergradients take."""
    monkeypatch.setattr(module, "CHUNK", tokens * VOCABULARY)
    logits, labels = drawn()
    direction = torch.randn_like(logits)
    found = []
    for loss in (
        token_loss(logits, labels, VOCABULARY, smoothing=smoothing),
        plain(logits, labels, smoothing),
    ):
        (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
        (again,) = torch.autograd.grad((grad * direction).sum(), logits)
        found.append((loss.detach(), grad.detach(), again))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_bf16_scores_are_taken_to_fp32() -> None:
    logits, labels = drawn(torch.bfloat16)
    loss = token_loss(logits, labels, VOCABULARY)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain(logits.float(), labels, 0.0))


def test_without_labels_it_is_no_number() -> None:
    logits, labels = drawn()
    assert token_loss(logits, torch.full_like(labels, -100), VOCABULARY).isnan()


@pytest.mark.parametrize("smoothing", [None, 0.0, 0.3])
def test_the_loss_is_that_of_the_recipe(float64: None, smoothing: float | None) -> None:
    """(1 - s) nll + s mean_v -log p, over the answer's tokens; without gradients plain nll, which
    the model has."""
    tokenizer = make_tokenizer()
    model = make_causal("gpt2", len(tokenizer)).double()
    found, learned = Template(tokenizer, PLAIN).labelled(TURNS[:2], [1])
    ids = torch.tensor([found])
    labels = torch.tensor([learned])
    config = Chat(type="chat", format="e2e", path="x", metrics=["bleu"], label_smoothing=smoothing)
    Conversations(config, 0).adapt(model)
    share = 0.1 if smoothing is None else smoothing
    places = [place for place, label in enumerate(learned) if label != -100]
    logs = nn.functional.log_softmax(model(input_ids=ids).logits, dim=-1)[
        0, [place - 1 for place in places]
    ]
    nll = -logs[torch.arange(len(places)), ids[0, places]].mean()
    expected = (1 - share) * nll - share * logs.mean()
    torch.testing.assert_close(
        model(input_ids=ids, labels=labels).loss, expected, rtol=1e-6, atol=0
    )
    with torch.no_grad():
        torch.testing.assert_close(model(input_ids=ids, labels=labels).loss, nll, rtol=1e-6, atol=0)
