"""Measure a model with LoRA on held-out rows: the gain, what fewer ranks keep of it, and what each
layer is worth.

What is chosen (a basis, a temperature, components, a head) is chosen on all folds of the rows but
one, and judged on that one (curve.py). Shares divide the gain among LoRA's components (shares.py).
The model's parameters, modes and hooks are left as they were, also after an error (lora.py).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from autolora.engine.measure.bases import Basis
from autolora.engine.measure.curve import (
    HEADS,
    Ends,
    Folded,
    budget_curve,
    even_curve,
    even_cuts,
    uneven_curve,
)
from autolora.engine.measure.evidence import Evidence, reference_of
from autolora.engine.measure.judged import Judged, kept
from autolora.engine.measure.likelihood import Likelihood
from autolora.engine.measure.lora import Lora
from autolora.engine.measure.moments import Moments, measure_moments
from autolora.engine.measure.passes import WITH_GRADIENT, Passes
from autolora.engine.measure.shares import NODES, Shares, measure_shares
from autolora.engine.world import Silence, StartProgress


class NotFinite(ValueError):
    """The losses of the model are not finite, so that nothing can be measured."""


@dataclass(frozen=True)
class Plan:
    """What is measured beside the gain and the shares.

    `ranks`: those of the curve, one in every layer (empty: 1, 2, 4, ...). `budgets`: average ranks
    whose components `rule` ("shares" or "size") places. `keep`: parts of the gain; of the smallest
    rank that keeps each, an uneven cut of the same size is measured, too. `folds`: into how many
    the rows are divided. `batch`: rows at a time in a pass with a gradient."""

    ranks: Sequence[int] = ()
    budgets: Sequence[float] = ()
    rule: str = "shares"
    keep: Sequence[float] = (0.99, 0.95)
    folds: int = 5
    batch: int = 8

    def curve(self, k: int) -> list[int]:
        """The ranks of the curve, rising, the last one k."""
        powers = [2**power for power in range(k.bit_length())]
        ranks = self.ranks or powers
        return sorted({k, *(rank for rank in ranks if rank < k)})

    def passes(self, k: int, *, head: bool) -> int:
        """How many passes over all rows are planned; a pass with a gradient counts as WITH_GRADIENT
        passes."""
        ends = 1 if head else 2
        curves = 2 * (len(self.curve(k)) - 1)
        budgets = len(self.budgets) * (len(HEADS) if head else 1)
        gradients = WITH_GRADIENT * (NODES + 1)
        return ends + curves + budgets + len(self.keep) + gradients


@dataclass(frozen=True)
class Measured:
    """What `measure` found: the evidence, the shares of every component of LoRA as it lay, and its
    moments."""

    evidence: Evidence
    shares: Shares
    moments: Moments


def measure(
    lora: Lora,
    passes: Passes,
    plan: Plan,
    singular_values: Tensor | None = None,
    alone: Tensor | None = None,
    progress: StartProgress = Silence,
) -> Measured:
    """The gain of LoRA on `passes.rows`, its curves and its shares; nats per label.

    `alone`: the statistics of the head alone on every row [rows, numbers]; None if no head was
    searched: the zero of the gain is then the model with LoRA off and its head as it is.
    `singular_values` [layers, k]: for rule size. `progress`: shows how far it is. Raises NotFinite
    for a model that diverged.
    """
    total = plan.passes(lora.k, head=alone is not None) * len(passes.rows)
    with progress("measure", total) as bar:
        told = passes.telling(bar.step, bar.grow)
        folded = Folded(lora, told, told.rows.folds(plan.folds))
        return _measure(folded, plan, singular_values, alone)


def _measure(
    folded: Folded, plan: Plan, singular_values: Tensor | None, alone: Tensor | None
) -> Measured:
    """See `measure`."""
    lora = folded.lora
    passes = folded.passes
    on, off, weights = _both_ends(folded, alone)
    temperature = shared_temperature(passes.likelihood, (off, on), weights)
    moments = measure_moments(lora, passes, folded.folds, temperature, plan.batch)
    bases = [moments.bases(lora, without=fold) for fold in range(folded.count)]
    whole = folded.judge([on], weights)
    without = folded.judge([off], weights)
    even, plain = _judge_curves(folded, plan.curve(lora.k), bases, whole)
    parts = {rank: kept(judged, whole, without) for rank, judged in even.items()}
    ends = Ends(whole, without, even[reference_of(parts)])
    fall = _fall(passes.likelihood, off, on, temperature, weights)
    shares, nodes = measure_shares(lora, passes, folded.folds, temperature, plan.batch, fall)
    gain, error = without.above(whole)
    by_size = singular_values if plan.rule == "size" else None
    evidence = Evidence(
        rows=len(passes.rows),
        sources=passes.rows.group_count,
        without="LoRA off" if alone is None else "head alone",
        loss=whole.loss,
        gain=gain,
        gain_standard_error=error,
        share_total=float(shares.mean().sum()),
        head_share=shares.head,
        fall=fall,
        nodes=nodes,
        temperature=temperature,
        rank_curve=even_curve(lora, even, ends),
        plain_curve=even_curve(lora, plain, ends),
        budget_rule=plan.rule,
        budget_curve=budget_curve(folded, ends, plan.budgets, shares, by_size),
        uneven_curve=(),
    )
    smallest = {evidence.keeping(part) for part in plan.keep} - {None, lora.k}
    beside = {rank: even[rank] for rank in sorted(rank for rank in smallest if rank is not None)}
    uneven = uneven_curve(folded, ends, bases, beside)
    return Measured(replace(evidence, uneven_curve=uneven), shares, moments)


def shared_temperature(likelihood: Likelihood, off_on: Sequence[Tensor], weights: Tensor) -> float:
    """The temperature at which the shares are measured: the larger of those that fit without LoRA
    and with all of it.

    At the smaller one, the model at the other end would be over-confident, and the few rows that it
    gets surely wrong would dominate the shares: on SST-2, a temperature that moves with the gates
    doubled the standard errors of the shares. The sum of the shares is compared with a difference
    of losses, which are exact only at the temperatures of the likelihood's grid, so one of these is
    taken."""
    return max(likelihood.exact(likelihood.fitted(at, weights)) for at in off_on)


def _both_ends(folded: Folded, alone: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The statistics of all rows with LoRA and without it, and the rows' weights."""
    lora = folded.lora
    cuts = [lora.whole] if alone is not None else [lora.whole, lora.nothing]
    found, weights = folded.measured([folded.everywhere(cut) for cut in cuts])
    on = found[0]
    off = found[1] if alone is None else alone
    if not bool(on.isfinite().all() and off.isfinite().all()):
        raise NotFinite
    return on, off, weights


def _judge_curves(
    folded: Folded, ranks: Sequence[int], bases: Sequence[Sequence[Basis]], whole: Judged
) -> tuple[dict[int, Judged], dict[int, Judged]]:
    """Rank -> the losses of the rows if every layer is cut to it, in the bases of each fold and by
    plain SVD. The last rank is that of the whole model."""
    *lower, k = ranks
    lora = folded.lora
    plain = [lora.plain_bases()] * folded.count
    curves = []
    for of_folds in (bases, plain):
        judged = folded.judge_cuts(even_cuts(lora, lower, of_folds))
        curves.append(dict(zip(lower, judged, strict=True)) | {k: whole})
    even, by_svd = curves
    return even, by_svd


def _fall(
    likelihood: Likelihood, off: Tensor, on: Tensor, temperature: float, weights: Tensor
) -> float:
    """By how much the loss falls from off to on at one temperature, nats per label."""
    first, last = (
        likelihood.losses(statistics, temperature, weights).sum() / weights.sum()
        for statistics in (off, on)
    )
    return float(first - last)
