"""The loss of a language model in parts: the same number and the same gradients, with less in memory."""

import pytest
import torch
from torch import Tensor, nn

from autolora.problems.tasks import losses as module
from autolora.problems.tasks.losses import token_loss

VOCABULARY = 11


def drawn(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    labels = torch.randint(VOCABULARY, (3, 7))
    labels[0, :4] = -100
    labels[2] = -100
    return torch.randn(3, 7, VOCABULARY, dtype=dtype, requires_grad=True), labels


def plain(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    scores, targets = logits[:, :-1].reshape(-1, VOCABULARY), labels[:, 1:].reshape(-1)
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
    for loss in (token_loss(logits, labels, VOCABULARY, smoothing=smoothing), plain(logits, labels, smoothing)):
        (grad,) = torch.autograd.grad(loss, logits, create_graph=True)
        (again,) = torch.autograd.grad((grad * direction).sum(), logits)
        found.append((loss.detach(), grad.detach(), again))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_without_gradients_nothing_is_smoothed() -> None:
    logits, labels = drawn()
    with torch.no_grad():
        assert token_loss(logits, labels, VOCABULARY, smoothing=0.1) == pytest.approx(
            plain(logits, labels, 0.0).item()
        )


def test_bf16_scores_are_taken_to_fp32() -> None:
    logits, labels = drawn(torch.bfloat16)
    loss = token_loss(logits, labels, VOCABULARY)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, plain(logits.float(), labels, 0.0))


def test_without_labels_it_is_no_number() -> None:
    logits, labels = drawn()
    assert token_loss(logits, torch.full_like(labels, -100), VOCABULARY).isnan()
