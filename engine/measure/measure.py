"""Measure a model with LoRA on held-out rows: the gain, what fewer ranks keep of it, and what each
layer is worth.

What is chosen (a basis, a temperature, components, a head) is chosen on all folds of the rows but
one, and judged on that one. Shares divide the gain among LoRA's components and the head:

    s_lj = - integral over t in 0..1 of dL_val/dg_lj, where all gates are t

This is the Aumann-Shapley value. The integrand is the direct gradient of the outer problem
(AutoLoRA Eq. 5), but with respect to the gates, not to beta: the softmax in each layer lets beta
see only how its components differ, not what they have in common. While the gates open, the head
moves from the one that was trained alone to the searched one; its part of the integral is its
share. All shares sum to L_val at t = 0 minus L_val at t = 1, at one temperature. They are not in
the paper. The share of a whole layer does not depend on the basis of its LoRA; that of a component
does.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, Self

import numpy as np
import torch
from accelerate.utils import send_to_device
from peft import PeftModel
from torch import Tensor, nn

from autolora.configs.errors import UserError
from autolora.engine.cut.basis import (
    Basis,
    Cut,
    Gated,
    balanced_basis,
    kept_within,
    parameters_of,
    uneven_ranks,
)
from autolora.engine.measure.evidence import BudgetPoint, CurvePoint, Evidence, reference_of
from autolora.engine.measure.likelihood import (
    Judged,
    Likelihood,
    cross_fitted,
    kept,
    ratio_error,
)
from autolora.problems.gates import moments
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import ALONE, Processes
from autolora.problems.rows import Rows

WITH_GRADIENT = 2
"""A pass with a gradient costs about as much as this many passes without: weights need no gradient,
only the gates."""
NODES = 3
"""How many values of t the Gauss-Legendre rule takes; with 3 it integrates polynomials up to degree
5 exactly. Each costs two passes over all rows; on SmolLM2-135M three miss the fall of the loss by
1.3 %."""
EXACT = 0.02
"""If the shares miss the measured fall of the loss by more than this part of it, the nodes are
doubled once."""
LEAST_DRAWS = 20
"""The standard error of shares comes from the spread of at least this many draws, if there are
enough groups."""
HEADS = (1.0, 0.5)
"""The heads with which the components of a budget are measured: the searched one, and the one
halfway to the head alone. Components may lie in few layers, and others that the searched head
relies on may be missing."""


class NotFinite(ValueError):
    """The losses of the model are not finite, so that nothing can be measured."""


@dataclass(frozen=True)
class Moments:
    """The second moments of LoRA in each fold: sums over tokens of h h' and of u u' [folds,
    layers, k, k].

    h = A x are a layer's inputs as A shows them, and u is the slope of the loss with respect to
    h."""

    inputs: Tensor
    slopes: Tensor

    def bases(self, gated: Gated, without: int | None = None) -> list[Basis]:
        """The balanced basis of each layer by the rows of all folds but `without` (None: by all
        rows)."""
        used = [fold for fold in range(len(self.inputs)) if fold != without] or [0]
        sums = [of[used].sum(dim=0) for of in (self.inputs, self.slopes)]
        return [
            balanced_basis(a, b, *(of[layer, :rank, :rank] for of in sums))
            for layer, ((a, b), rank) in enumerate(zip(gated.factors(), gated.ranks, strict=True))
        ]


@dataclass(frozen=True)
class Shares:
    """The shares of the components from independent draws of whole groups, and that of the head
    over all draws.

    `sums`: over the labels of each draw, in nats [draws, layers, k]. `weights`: labels of each draw
    [draws]. `folds`: the fold of each draw [draws]. `head`: in nats per label.
    """

    sums: Tensor
    weights: Tensor
    folds: np.ndarray
    head: float = 0.0

    def mean(self) -> Tensor:
        """The share of every component, nats per label [layers, k]."""
        return self.sums.sum(dim=0) / self.weights.sum()

    def standard_error(self) -> Tensor:
        """The standard error of `mean` [layers, k]."""
        return ratio_error(self.sums, self.weights)

    def part_error(self) -> Tensor:
        """The standard error of each mean share divided by the sum of all of them [layers, k]. A
        row that raises all shares alike says nothing about the parts. The sum must be above 0."""
        whole = self.sums.sum(dim=(1, 2), keepdim=True)
        parts = self.sums.sum(dim=0) / whole.sum()
        return (
            ratio_error(self.sums - parts * whole, self.weights) * self.weights.sum() / whole.sum()
        )

    def by_layer(self) -> "Shares":
        """The shares of whole layers [draws, layers, 1]. Their errors are not sums of the
        components' errors, as those depend on each other."""
        return replace(self, sums=self.sums.sum(dim=2, keepdim=True))

    def total(self) -> float:
        """The sum of all shares, that of the head included, in nats per label."""
        return float(self.mean().sum()) + self.head

    def without(self, fold: int) -> "Shares":
        """The components' shares on the draws of the other folds; of the head's nothing is known
        there."""
        rest = self.folds != fold
        if not rest.any():
            return self
        own = torch.from_numpy(rest)
        return Shares(self.sums[own], self.weights[own], self.folds[rest], float("nan"))

    def columns(self) -> dict[str, Tensor]:
        """The values of the fields of ranks.json's layers that hold shares, a row for each
        layer."""
        of_layers = self.by_layer()
        found = {
            "share": self.mean(),
            "share_standard_error": self.standard_error(),
            "layer_share": of_layers.mean().flatten(),
            "layer_share_standard_error": of_layers.standard_error().flatten(),
        }
        if float(self.sums.sum()) > 0:
            found["layer_part_standard_error"] = of_layers.part_error().flatten()
        return found


@dataclass(frozen=True)
class Passes:
    """How rows go through a model: dropout is off, autocast is on.

    `batch`: rows of similar length that go through at a time, if no gradient is taken. Several
    processes divide the batches among themselves, and each gets the results of all rows. `check`
    may raise, to stop. Progress is counted in rows times passes, where a pass with a gradient
    counts as WITH_GRADIENT passes: `advance` is told what was done, `extend` what has to be done
    beyond the plan.
    """

    rows: Rows
    likelihood: Likelihood
    compute: Compute
    processes: Processes = ALONE
    batch: int = 64
    check: Callable[[], None] = lambda: None
    advance: Callable[[int], None] = lambda count: None
    extend: Callable[[int], None] = lambda count: None

    def telling(self, step: Callable[[int], None], extend: Callable[[int], None]) -> Self:
        """The same passes with a bar: `step` is told how much is done, `extend` how much more there
        will be to do."""
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count * self.processes.size
            step(done)

        return replace(self, advance=advance, extend=extend)

    def statistics(self, model: nn.Module) -> tuple[Tensor, Tensor]:
        """The likelihood's statistics of every row [rows, numbers], and the rows' weights [rows];
        on the CPU."""
        model.eval()
        found, weights = self._zeros()
        batches = self.rows.by_length(np.arange(len(self.rows)), self.batch)
        for loaded in self._batches(batches):
            self._measure(model, loaded, found, weights)
        statistics, counts = self.processes.summed([found, weights])
        return statistics, counts

    def of_cuts(
        self, gated: Gated, folds: np.ndarray, cuts: Sequence[Sequence[Cut]]
    ) -> tuple[list[Tensor], Tensor]:
        """The statistics of every row [rows, numbers] for each of `cuts`, and the rows' weights
        [rows].

        A cut is given for each fold: what the other folds chose for it."""
        gated.model.eval()
        pairs = [self._zeros() for _ in cuts]
        for fold in range(int(folds.max()) + 1):
            batches = list(
                self._batches(self.rows.by_length(np.flatnonzero(folds == fold), self.batch))
            )
            for of_folds, (found, weights) in zip(cuts, pairs, strict=True):
                with gated.at(of_folds[fold]):
                    for loaded in batches:
                        self._measure(gated.model, loaded, found, weights)
        *statistics, weights = self.processes.summed([*(found for found, _ in pairs), pairs[0][1]])
        return statistics, weights

    def moments(self, gated: Gated, folds: np.ndarray, temperature: float, batch: int) -> Moments:
        """The moments of the whole model's LoRA, as it lies, `batch` rows at a time.

        u is drawn so that its moment is that of the Gauss-Newton matrix of the loss
        (`drawn_slope`). Tokens that the loss does not depend on, such as padding, do not count:
        there u is 0."""
        count = int(folds.max()) + 1
        k = gated.k
        found = torch.zeros(2, count, len(gated.ranks), k, k, dtype=torch.float64)
        batches = [
            one
            for fold in range(count)
            for one in self.rows.by_length(np.flatnonzero(folds == fold), batch)
        ]
        gated.model.eval()
        for loaded in self._batches(batches):
            with gated.seen() as seen:
                with self.compute.autocast():
                    logits, told = self.labelled_logits(gated.model, loaded.inputs, loaded.labels)
                generator = torch.Generator().manual_seed(loaded.number)
                value = self.likelihood.drawn_slope(logits, told, temperature, generator)
                # a block that is computed again in the backward pass is seen once more
                forward = list(seen)
                slopes = torch.autograd.grad(value, [h for _, h in forward], allow_unused=True)
            fold = folds[loaded.rows[0]]
            for (name, h), u in zip(forward, slopes, strict=True):
                if u is not None:
                    rank = h.shape[-1]
                    layer = gated.names.index(name)
                    found[:, fold, layer, :rank, :rank] += moments(h.detach(), u)
            self.advance(len(loaded.rows) * WITH_GRADIENT)
        return Moments(*self.processes.summed(list(found)))

    def shares(
        self,
        gated: Gated,
        folds: np.ndarray,
        temperature: float,
        batch: int,
        nodes: int,
        least: int,
    ) -> Shares:
        """The shares of every component and of the head, from at least `least` random draws of
        whole groups, by the Gauss-Legendre rule with this many `nodes`, at most `batch` rows at a
        time."""
        places, parts = np.polynomial.legendre.leggauss(nodes)
        line = list(zip(((places + 1) / 2).tolist(), (parts / 2).tolist(), strict=True))
        draws = self.rows.draws(folds, batch, least)
        sums = torch.zeros(len(draws), len(gated.ranks), gated.k, dtype=torch.float64)
        weights = torch.zeros(len(draws), dtype=torch.float64)
        head = torch.zeros((), dtype=torch.float64)
        parts_of = [
            (draw, rows[i : i + batch])
            for draw, rows in enumerate(draws)
            for i in range(0, len(rows), batch)
        ]
        gated.model.eval()
        for loaded in self._batches([rows for _, rows in parts_of]):
            draw, _ = parts_of[loaded.number]
            for t, part in line:
                by_gates, of_head, counted = self._slopes(gated, loaded, temperature, t)
                sums[draw] -= part * by_gates
                head -= part * of_head
            weights[draw] += counted
            self.advance(len(loaded.rows) * WITH_GRADIENT * nodes)
        sums, weights, head = self.processes.summed([sums, weights, head])
        return Shares(
            sums, weights, folds[[rows[0] for rows in draws]], float(head / weights.sum())
        )

    def _slopes(
        self, gated: Gated, loaded: "Loaded", temperature: float, t: float
    ) -> tuple[Tensor, float, float]:
        """dL/dg of a batch where all gates are t [layers, k], dL/dt through the head, and the
        batch's labels."""
        values = torch.full(
            (len(gated.ranks), gated.k), t, device=self.compute.device, requires_grad=True
        )
        with gated.at(Cut(values, head=t)):
            with self.compute.autocast():
                logits, told = self.labelled_logits(gated.model, loaded.inputs, loaded.labels)
            loss = self.likelihood.loss(logits, told, temperature)
            leaves = [values, *(weight for weight, *_ in gated.heads)]
            by_gates, *by_head = torch.autograd.grad(loss, leaves, allow_unused=True)
        # the loss may not depend on a weight of the head
        pairs = zip(by_head, gated.heads, strict=True)
        moved = [
            (s - a).cpu().double() * slope.cpu().double()
            for slope, (_, a, s) in pairs
            if slope is not None
        ]
        of_head = sum(float(one.sum()) for one in moved)
        return by_gates.cpu().double(), of_head, float(self.likelihood.weights(logits, told).sum())

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        """The summed loss of a batch. Scalar."""
        given = {name: value for name, value in batch.items() if name != "labels"}
        return self.likelihood.loss(*self.labelled_logits(model, given, batch["labels"]), 1.0)

    def labelled_logits(
        self, model: nn.Module, inputs: dict[str, Any], labels: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The model's logits and their labels.

        A language model computes only logits that predict a label, if its forward has
        `logits_to_keep`: logits of the prompts are not needed, and a vocabulary is large."""
        places = self.likelihood.labelled_positions(labels)
        whole = model.get_base_model() if isinstance(model, PeftModel) else model
        known = signature(whole.forward).parameters
        # No token is generated, so that no cache is needed; RWKV's cannot be differentiated.
        asked: dict[str, Any] = (
            {"use_cache": False, **inputs} if "use_cache" in known else dict(inputs)
        )
        if places is None or not len(places) or "logits_to_keep" not in known:
            return model(**asked).logits, labels
        # One more position is kept, as the likelihood drops the last one, which has no label after
        # it.
        kept = torch.cat([places, places[-1:] + 1])
        return model(**asked, logits_to_keep=kept).logits, torch.cat(
            [labels[:, :1], labels[:, places + 1]], dim=1
        )

    @torch.no_grad()
    def _measure(self, model: nn.Module, loaded: "Loaded", found: Tensor, weights: Tensor) -> None:
        """Writes the statistics and weights of a batch's rows to their places."""
        with self.compute.autocast():
            logits, told = self.labelled_logits(model, loaded.inputs, loaded.labels)
        sums, counts = self.likelihood.statistics(logits, told)
        found[loaded.rows] = sums.cpu().double()
        weights[loaded.rows] = counts.cpu().double()
        self.advance(len(loaded.rows))

    def _zeros(self) -> tuple[Tensor, Tensor]:
        shape = (len(self.rows), self.likelihood.width)
        return torch.zeros(shape, dtype=torch.float64), torch.zeros(
            len(self.rows), dtype=torch.float64
        )

    def _batches(self, batches: Sequence[list[int]]) -> Iterator["Loaded"]:
        """This process's batches on the device."""
        for number in range(self.processes.rank, len(batches), self.processes.size):
            self.check()
            batch = send_to_device(self.rows.batch(batches[number]), self.compute.device)
            labels = batch.pop("labels")
            if len(labels) != len(batches[number]):
                raise UserError(
                    "a batch needs a row of labels for each of its rows; allowed: rows "
                    "without packing"
                )
            yield Loaded(number, batches[number], batch, labels)


@dataclass(frozen=True)
class Loaded:
    """A batch on the device: its number, the numbers of its rows, the model's inputs, the
    labels."""

    number: int
    rows: list[int]
    inputs: dict[str, Any]
    labels: Tensor


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
        budgets = len(self.budgets) * (len(HEADS) if head else 1)
        return (
            1
            + (not head)
            + 2 * (len(self.curve(k)) - 1)
            + budgets
            + len(self.keep)
            + WITH_GRADIENT * (NODES + 1)
        )


@dataclass(frozen=True)
class Measured:
    """What `measure` found: the evidence, the shares of every component of LoRA as it lay, and its
    moments."""

    evidence: Evidence
    shares: Shares
    moments: Moments


def measure(
    gated: Gated,
    passes: Passes,
    plan: Plan,
    singular_values: Tensor | None = None,
    alone: Tensor | None = None,
) -> Measured:
    """The gain of LoRA on `passes.rows`, its curves and its shares; nats per label.

    `alone`: the statistics of the head alone on every row [rows, numbers]; None if no head was
    searched: the zero of the gain is then the model with LoRA off and its head as it is.
    `singular_values` [layers, k]: for rule size. Raises NotFinite for a model that diverged.
    """
    folded = _Folded(gated, passes, plan)
    k = gated.k
    if alone is None:
        on, off = folded.statistics([Cut(gated.even(k)), Cut(gated.even(0))])
    else:
        (on,) = folded.statistics([Cut(gated.even(k))])
        off = alone
    if not bool(on.isfinite().all() and off.isfinite().all()):
        raise NotFinite
    temperature = shared_temperature(passes.likelihood, (off, on), folded.weights)
    found = passes.moments(gated, folded.folds, temperature, plan.batch)
    bases = [found.bases(gated, fold) for fold in range(folded.count)]
    ranks = plan.curve(k)[:-1]
    plain = gated.plain()
    balanced = folded.statistics([[Cut(gated.even(rank), of) for of in bases] for rank in ranks])
    by_svd = folded.statistics([Cut(gated.even(rank), plain) for rank in ranks])
    folded.whole = folded.judged(on)
    folded.without = folded.judged(off)
    even = {rank: folded.judged(of_cut) for rank, of_cut in zip(ranks, balanced, strict=True)}
    svd = {rank: folded.judged(of_cut) for rank, of_cut in zip(ranks, by_svd, strict=True)}
    even[k] = folded.judged(on)
    svd[k] = even[k]
    parts = {rank: kept(one, folded.whole, folded.without) for rank, one in even.items()}
    folded.reference = even[reference_of(parts)]
    shares, nodes, fall = folded.shares((off, on), temperature)
    gain, error = folded.without.above(folded.whole)
    evidence = Evidence(
        rows=len(passes.rows),
        sources=passes.rows.group_count,
        without="LoRA off" if alone is None else "head alone",
        loss=folded.whole.loss,
        gain=gain,
        gain_standard_error=error,
        share_total=float(shares.mean().sum()),
        head_share=shares.head,
        fall=fall,
        nodes=nodes,
        temperature=temperature,
        rank_curve=tuple(folded.even(rank, one) for rank, one in even.items()),
        plain_curve=tuple(folded.even(rank, one) for rank, one in svd.items()),
        budget_rule=plan.rule,
        budget_curve=folded.budget_curve(shares, singular_values),
        uneven_curve=(),
    )
    wanted = {rank for part in plan.keep if (rank := evidence.keeping(part)) not in (None, k)}
    uneven = folded.uneven_curve(bases, {rank: even[rank] for rank in sorted(wanted)})
    return Measured(replace(evidence, uneven_curve=uneven), shares, found)


def shared_temperature(likelihood: Likelihood, off_on: Sequence[Tensor], weights: Tensor) -> float:
    """The temperature at which the shares are measured: the larger of those that fit without LoRA
    and with all of it.

    At the smaller one, the model at the other end would be over-confident, and the few rows that it
    gets surely wrong would dominate the shares: on SST-2, a temperature that moves with the gates
    doubled the standard errors of the shares. The sum of the shares is compared with a difference
    of losses, which are exact only at the temperatures of the likelihood's grid, so one of these is
    taken."""
    return max(likelihood.exact(likelihood.fitted(at, weights)) for at in off_on)


class _Folded:
    """Measures cuts of one model on the folds of its rows. `whole`, `without` LoRA, and
    `reference`, the rank beside which curves are judged, are set when they are measured; `weights`:
    those of the rows [rows]."""

    whole: Judged
    without: Judged
    reference: Judged
    weights: Tensor

    def __init__(self, gated: Gated, passes: Passes, plan: Plan) -> None:
        self.gated = gated
        self.passes = passes
        self.plan = plan
        self.folds = passes.rows.folds(plan.folds)
        self.count = int(self.folds.max()) + 1

    def statistics(self, cuts: Sequence[Cut | Sequence[Cut]]) -> list[Tensor]:
        """The statistics of all rows [rows, numbers] under each cut: one for all folds, or one for
        each of them."""
        of_folds = [[cut] * self.count if isinstance(cut, Cut) else cut for cut in cuts]
        if not cuts:
            return []
        found, self.weights = self.passes.of_cuts(self.gated, self.folds, of_folds)
        return found

    def judged(self, *candidates: Tensor) -> Judged:
        """The rows' losses by the best of these statistics, as the other folds choose it."""
        return cross_fitted(
            self.passes.likelihood,
            candidates,
            self.weights,
            self.folds,
            self.passes.rows.group_numbers,
        )

    def even(self, rank: int, judged: Judged) -> CurvePoint:
        """A point with one rank in every layer."""
        return self.point(rank, judged, self.gated.even(rank))

    def point(
        self, at: float, judged: Judged, mask: Tensor, kind: type[CurvePoint] = CurvePoint
    ) -> Any:
        """A point of a curve; its standard error is that of the difference to the reference."""
        (_, error) = judged.above(self.reference)
        (part, part_error) = kept(judged, self.whole, self.without)
        _, of_reference = kept(judged, self.reference, self.without)
        parameters = int(mask.sum(dim=1) @ torch.tensor(self.gated.sizes))
        return kind(at, judged.loss, error, part, part_error, parameters, of_reference)

    def shares(self, off_on: Sequence[Tensor], temperature: float) -> tuple[Shares, int, float]:
        """The shares, the number of nodes that they took, and the fall of the loss that they should
        sum to.

        `off_on`: the statistics of all rows at both ends of the path. If the sum misses the fall by
        more than EXACT, the nodes are doubled once."""
        likelihood = self.passes.likelihood
        first, last = [
            likelihood.losses(at, temperature, self.weights).sum() / self.weights.sum()
            for at in off_on
        ]
        fall = float(first - last)
        for nodes in (NODES, 2 * NODES):
            shares = self.passes.shares(
                self.gated, self.folds, temperature, self.plan.batch, nodes, LEAST_DRAWS
            )
            if nodes > NODES or abs(shares.total() - fall) <= EXACT * abs(fall):
                break
            self.passes.extend(WITH_GRADIENT * 2 * NODES * len(self.passes.rows))
        return shares, nodes, fall

    def budget_curve(
        self, shares: Shares, singular_values: Tensor | None
    ) -> tuple[BudgetPoint, ...]:
        """What the components keep that the rule takes within each budget.

        Each fold measures the components that the other folds' shares chose, and the head that
        suits the other folds best."""
        sizes = self.gated.sizes
        points = []
        for budget in self.plan.budgets:
            if (limit := parameters_of(budget, sizes)) < min(sizes):
                continue
            masks = [
                self._within(shares.without(fold), singular_values, limit)
                for fold in range(self.count)
            ]
            heads = HEADS if self.gated.heads else HEADS[:1]
            tried = self.statistics([[Cut(mask, head=head) for mask in masks] for head in heads])
            taken = self._within(shares, singular_values, limit)
            points.append(self.point(budget, self.judged(*tried), taken, BudgetPoint))
        return tuple(points)

    def _within(self, shares: Shares, singular_values: Tensor | None, limit: int) -> Tensor:
        """The components that the rule takes within so many parameters. Boolean [layers, k]."""
        if self.plan.rule == "shares":
            share = shares.mean()
            return kept_within(share, self.gated.sizes, limit, share > shares.standard_error())
        assert singular_values is not None
        return kept_within(singular_values.square(), self.gated.sizes, limit)

    def uneven_curve(
        self, bases: Sequence[Sequence[Basis]], even: dict[int, Judged]
    ) -> tuple[CurvePoint, ...]:
        """Uneven cuts in the balanced basis, of the sizes of these even ones.

        A point's standard error is that of the difference to the even cut."""
        gated = self.gated
        points = []
        for rank, beside in even.items():
            size = self.even(rank, beside).parameters
            cuts = [
                Cut(gated.first(uneven_ranks([one.size for one in of], gated.sizes, size)), of)
                for of in bases
            ]
            judged = self.judged(*self.statistics([cuts]))
            points.append(replace(self.even(rank, judged), standard_error=judged.above(beside)[1]))
        return tuple(points)
