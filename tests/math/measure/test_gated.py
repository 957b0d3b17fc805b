"""A cut model in a pass, and the head between the one that was trained alone and the searched one."""

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from autolora.engine.cut.basis import Basis
from autolora.engine.measure.gated import Cut, Gated, Heads, heads_of
from autolora.problems.gates import Gates
from tests.helpers.branches import HIDDEN, WIDTH, Branches

ALONE = {"out.1.weight": torch.full((3, 5), 2.0)}


def model_with_head() -> tuple[Any, nn.Parameter]:
    """A model whose second output layer is trained whole, all of whose weights are 6, and these weights."""
    base: Any = Branches(2)
    model: Any = get_peft_model(base, LoraConfig(r=2, target_modules=["branch.0"], modules_to_save=["out.1"]))
    weight = base.out[1].modules_to_save["default"].weight
    with torch.no_grad():
        weight.fill_(6.0)
    return model, weight


@pytest.mark.parametrize(("t", "expected"), [(0.0, 2.0), (0.25, 3.0), (1.0, 6.0)])
def test_at_t_the_head_lies_between_its_ends_and_afterwards_it_is_the_searched_one(t: float, expected: float) -> None:
    model, weight = model_with_head()
    heads = heads_of(model, ALONE)
    assert heads.parameters == [weight]
    with pytest.raises(KeyboardInterrupt), heads.at(t):  # noqa: PT012
        assert torch.equal(weight, torch.full((3, 5), expected))
        raise KeyboardInterrupt
    assert torch.equal(weight, torch.full((3, 5), 6.0))
    with Heads().at(t):
        assert torch.equal(weight, torch.full((3, 5), 6.0)), "without a head nothing moves"


def test_the_slope_is_that_of_a_loss_along_the_way() -> None:
    """The sum of the squares: its derivative with respect to t is sum(2 w (6 - 2)), and w is 4 in the middle."""
    model, weight = model_with_head()
    heads = heads_of(model, ALONE)
    with heads.at(0.5):
        gradients = torch.autograd.grad(weight.square().sum(), heads.parameters)
    assert heads.slope(gradients) == pytest.approx(15 * 2 * 4 * 4)
    assert heads.slope([None]) == 0, "a loss that does not depend on the head"


def unequal() -> Gated:
    """Three branches with LoRA of ranks 1, 4 and 2, as a finished adapter may have them; the scale is 1.5."""
    torch.manual_seed(0)
    base: Any = Branches(3)
    ranks = {"branch.0": 1, "branch.1": 4, "branch.2": 2}
    alphas = {name: 1.5 * rank for name, rank in ranks.items()}
    config = LoraConfig(r=4, target_modules=list(ranks), rank_pattern=ranks, alpha_pattern=alphas)
    model: Any = get_peft_model(base, config)
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight)
    return Gated(model, Gates(model))


def test_a_cut_of_unequal_ranks_is_the_first_components_in_its_basis_and_then_the_model_is_as_it_was() -> None:
    gated, x = unequal(), torch.randn(7, 3, WIDTH)
    assert (gated.ranks, gated.gates.k) == ([1, 4, 2], 4)
    assert gated.sizes == [HIDDEN + WIDTH] * 3
    assert gated.even(2).sum(dim=1).tolist() == [1, 2, 2]
    assert gated.first([0, 3, 1]).int().tolist() == [[0, 0, 0, 0], [1, 1, 1, 0], [1, 0, 0, 0]]
    before, whole = [one.clone() for one in gated.model.parameters()], gated.model(x=x).logits
    bases = [Basis(torch.randn(r, WIDTH), torch.randn(HIDDEN, r), torch.ones(r)) for r in gated.ranks]
    base: Any = gated.model.get_base_model()
    expected = torch.zeros(7, 3)
    for b, (basis, rank) in enumerate(zip(bases, (0, 3, 1), strict=True)):
        weight = base.branch[b].base_layer.weight + 1.5 * basis.b[:, :rank] @ basis.a[:rank]
        expected = expected + base.out[b](x[:, b] @ weight.T)
    with gated.at(Cut(gated.first([0, 3, 1]), bases)):
        torch.testing.assert_close(gated.model(x=x).logits, expected)
    with pytest.raises(KeyboardInterrupt), gated.at(Cut(gated.even(1), bases)):
        raise KeyboardInterrupt
    assert all(torch.equal(one, other) for one, other in zip(gated.model.parameters(), before, strict=True))
    with gated.at(Cut(gated.even(4), gated.plain())):
        torch.testing.assert_close(gated.model(x=x).logits, whole)
