"""A batch that goes through the model in parts gives the bilevel step of the whole batch."""

import weakref

import pytest
import torch
from torch import Tensor

from tests.helpers.bilevel_toys import METHODS, implicit, lora_toy, random_vector

pytestmark = pytest.mark.usefixtures("float64")


class Kept:
    """A tensor that a graph keeps for its backward pass; it dies with the graph."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor


@pytest.mark.parametrize("method", METHODS)
def test_no_graph_of_a_part_is_alive_when_the_next_part_runs(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    """Second-order methods held the graphs of two parts at once."""
    toy = lora_toy(method, parts=(8, 8), dropout=0.1, terms=2)
    alive: weakref.WeakSet[Kept] = weakref.WeakSet()
    held, original = [], toy.inner.training_step

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
    """Three steps, so that the optimiser's state and the gradient that `sama` reads have passed through it too."""
    options = {"optimizer": torch.optim.AdamW, "rate": 0.05, "eta": 0.3, "steps": 3}
    whole, cut = (lora_toy(method, parts=parts, **options) for parts in ((), (9, 4, 3)))
    for one, other in zip(whole.after, cut.after, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-9, atol=1e-12)
    for name in ("direct", "implicit", "last_loss"):
        torch.testing.assert_close(getattr(cut.outer, name), getattr(whole.outer, name), rtol=1e-6, atol=1e-12)
    torch.testing.assert_close(cut.inner.last_loss, whole.inner.last_loss)
    assert method == "first_order" or cut.outer.implicit.norm() > 0


def test_each_part_draws_dropout_masks_of_its_own_and_keeps_them() -> None:
    toy = lora_toy("forward_difference", parts=(8, 8), dropout=0.5, steps=1)
    with torch.no_grad():
        toy.outer.module.beta.copy_(toy.outer.beta_before)
    with toy.inner.at(toy.before):
        again = list(toy.inner.losses(toy.inner.batch))
    assert len(again) == 2
    assert not torch.equal(toy.inner.batch.parts[0][0]["x"], toy.inner.batch.parts[1][0]["x"])
    assert torch.equal(again[0] + again[1], toy.inner.last_loss)


def test_passes_are_counted_by_part() -> None:
    whole, cut = (lora_toy("darts", parts=parts, steps=1).inner.shared.passes for parts in ((), (8, 8)))
    assert (cut.forward, cut.backward) == (2 * whole.forward, 2 * whole.backward)
