"""A batch that goes through the model in parts gives the bilevel step of the whole batch."""

import weakref

import pytest
import torch
from torch import Tensor

from autolora.problems.batches import Batch
from tests.helpers.bilevel_toys import METHODS, implicit, lora_toy, random_vector

pytestmark = pytest.mark.usefixtures("float64")


class Kept:
    """A tensor that a graph keeps for its backward pass; it dies with the graph."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@pytest.mark.parametrize("method", METHODS)
def test_no_graph_of_a_part_is_alive_when_the_next_part_runs(
    monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Second-order methods held the graphs of two parts at once."""
    toy = lora_toy(method, parts=(8, 8), dropout=0.1, terms=2)
    alive: weakref.WeakSet[Kept] = weakref.WeakSet()
    held = []
    original = toy.inner.training_step

    def keep(tensor: Tensor) -> Kept:
        kept = Kept(tensor.detach())  # an output that its own node keeps would keep that node alive
        alive.add(kept)
        return kept

    def training_step(batch: dict[str, Tensor]) -> Tensor:
        held.append(len(alive))
        return original(batch)

    monkeypatch.setattr(toy.inner, "training_step", training_step)
    vector = random_vector(toy)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept.tensor):
        implicit(toy, vector)
    assert held == [0] * len(held)
    assert len(held) >= 2 or method == "first_order"


@pytest.mark.parametrize("method", METHODS)
def test_a_step_in_unequal_parts_is_the_step_of_the_whole_batch(method: str) -> None:
    """Three steps, so that the optimiser's state and the gradient that `sama` reads have passed
    through it too."""
    options = {"optimizer": torch.optim.AdamW, "rate": 0.05, "eta": 0.3, "steps": 3}
    whole, cut = (lora_toy(method, parts=parts, **options) for parts in ((), (9, 4, 3)))
    for one, other in zip(whole.after, cut.after, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)
    for name in ("direct", "implicit", "last_loss"):
        torch.testing.assert_close(
            getattr(cut.outer, name), getattr(whole.outer, name), rtol=1e-6, atol=1e-12
        )
    torch.testing.assert_close(cut.inner.last_loss, whole.inner.last_loss)
    assert method == "first_order" or cut.outer.implicit.norm() > 0


def test_each_part_draws_dropout_masks_of_its_own_and_keeps_them() -> None:
    """By two parts of the same rows."""
    toy = lora_toy("forward_difference", parts=(8, 8), dropout=0.5, steps=1)
    batch = Batch([toy.inner.batch.parts[0]] * 2, seed=5)
    one, other = ([loss.item() for loss in toy.inner.losses(batch)] for _ in range(2))
    assert one == other
    assert one[0] != one[1]
