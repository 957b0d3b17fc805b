"""Measure a searched model on D_val: the gain of LoRA, the shares, and the curves."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from autolora.configs.schema import RunConfig
from autolora.engine.answer.curve import Judged, crossed, kept
from autolora.engine.answer.cuts import Cuts, Searched
from autolora.engine.answer.likelihood import Gaussian, Likelihood
from autolora.engine.answer.sample import WITH_GRADIENT, Sample
from autolora.engine.answer.shares import NODES, Division, Shares, allowed_gap, complete, integrate
from autolora.engine.cut.budget import kept_within
from autolora.engine.ranks.evidence import CurvePoint, Evidence, reference_of
from autolora.engine.ranks.rules import parameters_of

HEADS = (1.0, 0.5)
"""The heads with which the components of a budget are measured (`Heads`): the searched one, and the one halfway to the
head alone."""
AT_DOUBLED_NODES = WITH_GRADIENT * 2 * NODES
"""The passes that the shares take once more if NODES are not accurate enough."""


def ranks_of_curve(k: int, asked: Sequence[int] = ()) -> list[int]:
    """The ranks of the curve, rising: those `asked` for (if empty 1, 2, 4, ...) and k."""
    powers = (2**power for power in range(k.bit_length()) if 2**power < k)
    return sorted({k, *(asked or powers)})


def passes(config: RunConfig, head: bool) -> int:
    """How many passes over all rows `measure` takes at most, as when the shares need the doubled nodes, too
    (`AT_DOUBLED_NODES` of them); a pass with a gradient counts as WITH_GRADIENT passes.

    `head`: whether a head was searched beside LoRA; what there is without LoRA has then been measured before."""
    ranks, budgets = len(ranks_of_curve(config.lora.k, config.answer.curve_ranks)), len(_budgets(config))
    return ranks + (budgets * (len(HEADS) + 1) if head else 2 * budgets + 1) + WITH_GRADIENT * NODES + AT_DOUBLED_NODES


def measure(searched: Searched, sample: Sample, head: Tensor | None, config: RunConfig) -> tuple[Evidence, Shares]:
    """The evidence on D_val, and the shares of every component and of the head.

    `head`: the statistics of the head alone on every row [rows, numbers]; None if the search trained nothing but LoRA,
    so that the searched model without LoRA is the base model."""
    k, every, cuts = searched.gates.k, searched.all(), Cuts(searched, sample)
    ranks = ranks_of_curve(k, config.answer.curve_ranks)
    masks = [every & (torch.arange(k) < rank) for rank in ranks]
    if head is None:
        off, *by_rank = cuts.statistics([every & False, *masks])
    else:
        off, by_rank = head, cuts.statistics(masks)
    weights = cuts.weights
    judged = [_judged(sample, (at, at), weights) for at in by_rank]
    whole, alone = judged[-1], _judged(sample, (off, off), weights)
    temperature = shared_temperature(sample.likelihood, (off, by_rank[-1]), weights)
    shares, nodes, fall = shares_on(cuts, (off, by_rank[-1]), temperature, config.search.batch_size)
    gain, error = alone.above(whole)
    budgets = _budget_curve(cuts, shares, config)
    parts = {rank: kept(at, whole, alone) for rank, at in zip(ranks, judged, strict=True)}
    reference = judged[ranks.index(reference_of(parts))]
    evidence = Evidence(
        rows=len(sample.rows),
        sources=sample.source_count,
        without="base model" if head is None else "head alone",
        loss=whole.loss,
        gain=gain,
        gain_standard_error=error,
        share_total=float(shares.mean().sum()),
        head_share=shares.head,
        fall=fall,
        nodes=nodes,
        temperature=temperature,
        rank_curve=tuple(_point(rank, at, (reference, whole, alone)) for rank, at in zip(ranks, judged, strict=True)),
        budget_rule=_budget_rule(config),
        budget_curve=tuple(_point(budget, at, (reference, whole, alone), count) for budget, count, at in budgets),
        allowed_gap=_gap(cuts),
        regression=isinstance(sample.likelihood, Gaussian),
    )
    return evidence, shares


def shares_on(cuts: Cuts, off_on: Sequence[Tensor], temperature: float, batch: int) -> tuple[Division, int, float]:
    """The shares on the rows of the sample, the nodes of their integral, and the fall of the loss along the path, to
    which they must sum.

    `off_on`: the statistics without LoRA (of the head alone, if there is one) and with all of it; `batch`: rows that
    pass at a time."""
    searched, sample, weights = cuts.searched, cuts.sample, cuts.weights
    off, on = (sample.likelihood.losses(at, temperature, weights).sum() / weights.sum() for at in off_on)
    fall = float(off - on)
    shares, nodes = complete(
        partial(integrate, searched, temperature, sample, batch),
        fall,
        _gap(cuts),
        spare=lambda nodes: sample.extend(-WITH_GRADIENT * nodes * len(sample.rows)),
    )
    return shares, nodes, fall


def _gap(cuts: Cuts) -> float:
    """How far the sum of the shares may miss the fall of the loss, as a part of it."""
    return allowed_gap(rounds=cuts.sample.compute.rounds(cuts.searched.model))


def shared_temperature(likelihood: Likelihood, off_on: Sequence[Tensor], weights: Tensor) -> float:
    """The temperature at which the shares are measured: the larger of those that fit without LoRA and with all of it.

    At the smaller one, the model at the other end would be over-confident, and the few rows that it gets surely wrong
    would dominate the shares: on SST-2, a temperature that moves with the gates doubled the standard errors of the
    shares. The sum of the shares is compared with a difference of losses, which are exact only at the temperatures of
    the likelihood's grid, so one of these is taken."""
    return max(likelihood.exact(likelihood.fitted(at, weights)) for at in off_on)


def _judged(sample: Sample, chosen: Sequence[Tensor], weights: Tensor) -> Judged:
    return crossed(sample.likelihood, chosen, weights, sample.first_half, sample.sources)


def _budget_rule(config: RunConfig) -> str:
    return "size" if config.answer.rule == "size" else "shares"


def _budgets(config: RunConfig) -> list[float]:
    return sorted({budget for budget in config.answer.curve_budgets if budget <= config.lora.k})


def _budget_curve(cuts: Cuts, shares: Shares, config: RunConfig) -> list[tuple[float, int, Judged]]:
    """The budget curve: each budget, the LoRA parameters that its components take, and the losses of the rows.

    Each half of the rows measures the components that the other half's shares chose; all rows choose those that are
    counted."""
    rule, points, searched, sample = _budget_rule(config), [], cuts.searched, cuts.sample
    budgets = [b for b in _budgets(config) if parameters_of(b, searched.sizes) >= min(searched.sizes)]
    heads = HEADS if searched.heads.weights else HEADS[:1]
    too_small = len(_budgets(config)) - len(budgets)
    sample.extend(-(len(heads) + 1) * too_small * len(sample.rows))  # they need no passes

    def taken(of: Shares) -> list[Tensor]:
        return [within(rule, of.mean(), searched.singular_values, searched.sizes, budget) for budget in budgets]

    first, second = shares.halves()
    chosen = zip(_by_half(cuts, taken(first), True, heads), _by_half(cuts, taken(second), False, heads), strict=True)
    for budget, statistics, mask in zip(budgets, chosen, taken(shares), strict=True):
        parameters = int(mask.sum(dim=1) @ torch.tensor(searched.sizes))
        points.append((budget, parameters, _judged(sample, statistics, cuts.weights)))
    return points


def _by_half(cuts: Cuts, masks: Sequence[Tensor], first: bool, heads: Sequence[float]) -> list[Tensor]:
    """The statistics of all rows [rows, numbers] under each of the masks that one half of the rows chose.

    Components placed by the rule may lie in few layers, and others that the searched head relies on may be missing. So
    several heads are tried, and the half that chose the components (`first`: the first half) chooses the head, too."""
    sample = cuts.sample
    own, other = (Cuts(cuts.searched, sample.half(part)) for part in (first, not first))
    by_head = [own.statistics(masks, head) for head in heads]
    here, found = torch.from_numpy(sample.first_half == first), []
    for mask, *tried in zip(masks, *by_head, strict=True):
        losses = [_loss(own, statistics) for statistics in tried]
        best = losses.index(min(losses))
        rows = torch.zeros(len(sample.rows), tried[best].shape[1], dtype=torch.float64)
        rows[here] = tried[best]
        (rows[~here],) = other.statistics([mask], heads[best])
        found.append(rows)
    return found


def _loss(cuts: Cuts, statistics: Tensor) -> float:
    """The summed loss of the rows at the temperature that fits them."""
    likelihood = cuts.sample.likelihood
    temperature = likelihood.fitted(statistics, cuts.weights)
    return float(likelihood.losses(statistics, temperature, cuts.weights).sum())


def within(rule: str, share: Tensor, singular_values: Tensor, sizes: list[int], budget: float | None) -> Tensor:
    """The components that a rule takes for an average rank of `budget` (None: without a limit). Boolean [layers, k].

    Rule shares takes the largest shares per parameter that are above 0: the best guess counts, even one that noise may
    have raised. Rule size takes the largest squared singular values per parameter (PARA takes the largest singular
    values, whatever a component costs).
    """
    parameters = None if budget is None else parameters_of(budget, sizes)
    if rule == "size":
        return kept_within(singular_values.square(), sizes, parameters)
    return kept_within(share, sizes, parameters, share > 0)


def _point(
    at: float, judged: Judged, beside: tuple[Judged, Judged, Judged], parameters: int | None = None
) -> CurvePoint:
    """A point of a curve. `beside`: the reference of the rank curve, the searched model, and the head alone."""
    reference, whole, alone = beside
    (_, error), (part, part_error) = judged.above(reference), kept(judged, whole, alone)
    of_reference = None if reference is whole else kept(judged, reference, alone)[1]
    return CurvePoint(at, judged.loss, error, judged.temperature, part, part_error, parameters, of_reference)
