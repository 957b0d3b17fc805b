"""Measure a searched model on D_val: the gain of LoRA, the shares, and the curves."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from peft import PeftModel
from torch import Tensor

from configs.schema import RunConfig
from engine.answer.curve import Judged, crossed, kept
from engine.answer.sample import WITH_GRADIENT, Opened, Sample
from engine.answer.shares import NODES, Shares, complete, integrate
from engine.ranks.budget import kept_within
from engine.ranks.evidence import CurvePoint, Evidence
from engine.ranks.rules import above_noise, parameters_of
from problems.gates import Gates

BUDGETS = (0.25, 0.5, 1.0, 2.0)
"""The budgets that the budget curve measures, as average ranks; those above k are left out."""


@dataclass(frozen=True)
class Searched:
    """A searched model in its singular basis, with its gates, the singular values [layers, k] and the LoRA parameters
    of one component of each layer [layers]."""

    model: PeftModel
    gates: Gates
    singular_values: Tensor
    sizes: list[int]

    def cut(self, mask: Tensor) -> Opened:
        """A context in which only the components in `mask` [layers, k] are active."""
        device = next(self.model.parameters()).device
        return partial(self.gates.open, mask.float().to(device))

    def all(self) -> Tensor:
        """The mask with all components."""
        return torch.ones(self.singular_values.shape, dtype=torch.bool)


def ranks_of_curve(k: int, asked: Sequence[int] = ()) -> list[int]:
    """The ranks of the curve, rising: those `asked` for (if empty 1, 2, 4, ...) and k."""
    powers = (2**power for power in range(k.bit_length()) if 2**power < k)
    return sorted({k, *(asked or powers)})


def passes(config: RunConfig) -> int:
    """How many passes over all rows `measure` takes; a pass with a gradient counts as WITH_GRADIENT passes."""
    k = config.lora.k
    return 1 + len(ranks_of_curve(k, config.answer.curve_ranks)) + WITH_GRADIENT * NODES + 2 * len(_budgets(k))


@dataclass(frozen=True)
class Without:
    """The model without LoRA. `name`: "head alone" or "base model"; `statistics`: of every row [rows, numbers]."""

    name: str
    statistics: Tensor


def measure(searched: Searched, sample: Sample, without: Without, config: RunConfig) -> tuple[Evidence, Shares]:
    """The evidence on D_val, and the shares of every component."""
    k, first, likelihood = searched.gates.k, sample.first_half, sample.likelihood
    every = searched.all()
    cuts = ranks_of_curve(k, config.answer.curve_ranks)
    by_rank = [every & (torch.arange(k) < rank) for rank in cuts]
    off = torch.zeros_like(every)
    found, weights = sample.statistics(searched.model, [searched.cut(mask) for mask in (off, *by_rank)])
    # The sum of the shares is compared with `switch_off`, a difference of losses. Between the temperatures of the
    # likelihood's grid losses are interpolated, so a temperature of the grid is taken, where they are exact.
    temperature = likelihood.exact(likelihood.fitted(found[-1], weights))
    judged = [crossed(likelihood, (at, at), weights, first) for at in found[1:]]
    whole, alone = judged[-1], crossed(likelihood, (without.statistics,) * 2, weights, first)
    on_off = [likelihood.losses(at, temperature, weights).sum() for at in (found[0], found[-1])]
    switch_off = float((on_off[0] - on_off[1]) / weights.sum())
    by_nodes = partial(integrate, searched.model, searched.gates, sample, config.search.batch_size, temperature)
    shares, nodes = complete(
        by_nodes, switch_off, extend=lambda more: sample.extend(WITH_GRADIENT * more * len(sample.rows))
    )
    gain, error = alone.above(whole)
    evidence = Evidence(
        rows=len(sample.rows),
        without=without.name,
        loss=whole.loss,
        gain=gain,
        gain_standard_error=error,
        share_total=float(shares.mean().sum()),
        switch_off=switch_off,
        nodes=nodes,
        temperature=temperature,
        rank_curve=tuple(_point(rank, at, whole, alone) for rank, at in zip(cuts, judged, strict=True)),
        budget_rule=_budget_rule(config),
        budget_curve=tuple(_budget_curve(searched, sample, shares, whole, alone, config)),
    )
    return evidence, shares


def _budget_rule(config: RunConfig) -> str:
    return "size" if config.answer.rule == "size" else "shares"


def _budgets(k: int) -> list[float]:
    return [budget for budget in BUDGETS if budget <= k]


def _budget_curve(
    searched: Searched, sample: Sample, shares: Shares, whole: Judged, alone: Judged, config: RunConfig
) -> list[CurvePoint]:
    """The budget curve: each half of the rows measures the components that the other half's shares chose."""
    rule, points = _budget_rule(config), []
    budgets = [b for b in _budgets(searched.gates.k) if parameters_of(b, searched.sizes) >= min(searched.sizes)]
    masks = [
        within(rule, of.mean(), of.standard_error(), searched.singular_values, searched.sizes, budget)
        for budget in budgets
        for of in shares.halves()
    ]
    if not masks:
        return []
    found, weights = sample.statistics(searched.model, [searched.cut(mask) for mask in masks])
    for number, budget in enumerate(budgets):
        judged = crossed(sample.likelihood, tuple(found[2 * number : 2 * number + 2]), weights, sample.first_half)
        taken = within(rule, shares.mean(), shares.standard_error(), searched.singular_values, searched.sizes, budget)
        parameters = int(taken.sum(dim=1) @ torch.tensor(searched.sizes))
        points.append(_point(budget, judged, whole, alone, parameters))
    return points


def within(
    rule: str, share: Tensor, error: Tensor, singular_values: Tensor, sizes: list[int], budget: float | None
) -> Tensor:
    """The components that a rule takes for an average rank of `budget` (None: without a limit). Boolean [layers, k].

    Rule shares takes the largest shares per parameter, only those above noise. Rule size takes the largest squared
    singular values per parameter, as PARA does.
    """
    parameters = None if budget is None else parameters_of(budget, sizes)
    if rule == "size":
        return kept_within(singular_values.square(), sizes, parameters)
    return kept_within(share, sizes, parameters, above_noise(share, error))


def _point(at: float, judged: Judged, whole: Judged, alone: Judged, parameters: int | None = None) -> CurvePoint:
    (_, error), (part, part_error) = judged.above(whole), kept(judged, whole, alone)
    return CurvePoint(at, judged.loss, error, judged.temperature, part, part_error, parameters)
