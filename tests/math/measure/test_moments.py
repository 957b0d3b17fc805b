"""The moments of LoRA, against sums over tokens by hand in float64, and the basis of the rows of other folds."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from autolora.engine.measure.gated import Gated
from autolora.engine.measure.likelihood import Categorical
from autolora.engine.measure.passes import Moments, Passes
from autolora.problems.gates import Gates
from autolora.problems.models.recompute import recompute_blocks
from tests.helpers.branches import passes_of

ROWS, TOKENS, WIDTH, CLASSES = 11, 4, 5, 3
SCALES = {"first": 2.0, "second": 0.5}


class Net(nn.Module):
    """Two layers with something curved between them, for each token; a row has the mean of its first tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(WIDTH, WIDTH)
        self.second = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor, mask: Tensor) -> Any:
        tokens = self.second(torch.tanh(self.first(x)))
        return SimpleNamespace(logits=(tokens * mask.unsqueeze(-1)).sum(dim=1) / mask.sum(dim=1, keepdim=True))


class Told(Categorical):
    """Instead of a drawn slope each label has one that the test knows, 1, 2 and 3 for the three classes."""

    def drawn_slope(self, logits: Tensor, labels: Tensor, temperature: float, generator: torch.Generator) -> Tensor:
        return (logits * torch.tensor([1.0, 2.0, 3.0])).sum()


def two_layers() -> tuple[Gated, Tensor, Tensor]:
    """The net with LoRA of ranks 3 and 2, inputs [rows, tokens, width] and the mask of tokens that count."""
    torch.manual_seed(0)
    net: Any = Net()
    ranks, alphas = {"first": 3, "second": 2}, {"first": 6.0, "second": 1.0}
    config = LoraConfig(target_modules=list(ranks), rank_pattern=ranks, alpha_pattern=alphas)
    model: Any = get_peft_model(net, config)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    mask = (torch.arange(TOKENS) < torch.randint(1, TOKENS + 1, (ROWS, 1))).double()
    return Gated(model, Gates(model)), torch.randn(ROWS, TOKENS, WIDTH), mask


def passes_over(rows: int, collate: Any, likelihood: Categorical) -> Passes:
    """Passes over rows that `collate` makes of their numbers, x[0]."""
    passes = passes_of(torch.arange(float(rows)).unsqueeze(1), torch.zeros(rows), likelihood=likelihood)
    return replace(passes, rows=replace(passes.rows, collate=collate))


def by_hand(gated: Gated, inputs: Tensor, mask: Tensor) -> list[tuple[Tensor, Tensor]]:
    """h h' and u u' of both layers, summed over the tokens that count, by the chain rule."""
    base: Any = gated.model.get_base_model()
    (a1, b1), (a2, b2) = gated.gates.factors()
    w1, w2 = (
        layer.base_layer.weight + SCALES[name] * b @ a
        for name, layer, a, b in (("first", base.first, a1, b1), ("second", base.second, a2, b2))
    )
    found = [(torch.zeros(r, r), torch.zeros(r, r)) for r in (3, 2)]
    for row in range(ROWS):
        for x in inputs[row, : int(mask[row].sum())]:
            inner = torch.tanh(w1 @ x + base.first.base_layer.bias)
            slope = torch.tensor([1.0, 2.0, 3.0]) / mask[row].sum()
            u2 = SCALES["second"] * b2.T @ slope
            u1 = SCALES["first"] * b1.T @ ((1 - inner.square()) * (w2.T @ slope))
            for (hh, uu), h, u in zip(found, (a1 @ x, a2 @ inner), (u1, u2), strict=True):
                hh += torch.outer(h, h)
                uu += torch.outer(u, u)
    return found


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("batch", [3, 64])
def test_the_moments_are_those_by_hand_and_padding_does_not_count(batch: int) -> None:
    gated, inputs, mask = two_layers()

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        numbers = [int(row["x"][0]) for row in rows]
        return {"x": inputs[numbers], "mask": mask[numbers], "labels": torch.zeros(len(rows), dtype=torch.long)}

    passes, folds = passes_over(ROWS, collate, Told()), np.arange(ROWS) % 4
    trained = [p.requires_grad for p in gated.model.parameters()]
    with torch.no_grad():
        expected = by_hand(gated, inputs, mask)
    found = passes.moments(gated, folds, 1.0, batch)
    assert found.inputs.shape == found.slopes.shape == (4, 2, 3, 3)
    for layer, (hh, uu) in enumerate(expected):
        r = len(hh)
        torch.testing.assert_close(found.inputs[:, layer, :r, :r].sum(dim=0), hh)
        torch.testing.assert_close(found.slopes[:, layer, :r, :r].sum(dim=0), uu)
    only = passes.moments(gated, np.where(folds == 2, 0, 1), 1.0, batch)
    torch.testing.assert_close(only.inputs[0], found.inputs[2])  # the sums over its own rows
    torch.testing.assert_close(only.slopes[0], found.slopes[2])
    assert [p.requires_grad for p in gated.model.parameters()] == trained
    assert all(p.grad is None for p in gated.model.parameters())


@pytest.mark.usefixtures("float64")
@torch.no_grad()
def test_in_the_basis_of_a_fold_both_moments_of_all_other_folds_are_its_sizes() -> None:
    gated, *_ = two_layers()
    parts = torch.randn(2, 4, 2, 3, 6)
    inputs, slopes = parts @ parts.mT
    of_all, of_others = Moments(inputs, slopes).bases(gated), Moments(inputs, slopes).bases(gated, without=1)
    for used, bases in (([0, 1, 2, 3], of_all), ([0, 2, 3], of_others)):
        for layer, ((a, b), r) in enumerate(zip(gated.gates.factors(), gated.ranks, strict=True)):
            hh, uu = (of[used, layer, :r, :r].sum(dim=0) for of in (inputs, slopes))
            basis = bases[layer]
            there, back = basis.a @ torch.linalg.pinv(a), torch.linalg.pinv(b) @ basis.b  # T and its inverse
            torch.testing.assert_close(there @ hh @ there.T, basis.size.diag())
            torch.testing.assert_close(back.T @ uu @ back, basis.size.diag())
            torch.testing.assert_close(basis.b @ basis.a, (b @ a).detach())


def test_blocks_that_are_computed_again_have_the_same_moments_and_shares() -> None:
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2}
    base: Any = LlamaForCausalLM(LlamaConfig(vocab_size=20, **sizes))
    model: Any = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    for name, weight in model.named_parameters():
        nn.init.normal_(weight, std=0.3 if "lora_" in name else 0.1)
    gated, tokens = Gated(model, Gates(model)), torch.randint(20, (9, 6))

    def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        own = tokens[[int(row["x"][0]) for row in rows]]
        return {"input_ids": own, "labels": torch.where(torch.arange(6) > 2, own, -100)}

    passes, folds = passes_over(9, collate, Categorical(shifted=True)), np.arange(9) % 3

    def measured() -> list[Tensor]:
        shares = passes.shares(gated, folds, 1.5, 4, 2, 3)
        return [*vars(passes.moments(gated, folds, 1.5, 4)).values(), shares.sums]

    before = measured()
    recompute_blocks(model)
    for one, other in zip(before, measured(), strict=True):
        assert one.abs().max() > 0
        assert torch.equal(one, other)
