"""The rules that choose ranks from what a search left and what was measured of it; no model is
run."""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from autolora.configs.errors import UserError
from autolora.configs.measure import LEAST_ROWS, RuleConfig, Shares, Size, Threshold
from autolora.engine.measure.bases import kept_within, parameters_of
from autolora.engine.measure.evidence import Evidence
from autolora.engine.ranks.record import (
    BY_CURVE,
    NOTHING_LEARNED,
    RankRecord,
    count_parameters,
    kept_components,
    thresholds,
)


@dataclass(frozen=True)
class Rule:
    """A rule with its settings. `sizes`: layer name -> LoRA parameters of one component."""

    settings: RuleConfig
    sizes: Mapping[str, int]

    def choose(self, record: RankRecord) -> RankRecord:
        """The record with ranks by this rule. If the rule finds none, every layer gets rank 1, and
        the note says so.

        Raises UserError for a budget that cannot be met, and for measurements that the record
        lacks."""
        raise NotImplementedError

    def with_ranks(
        self,
        record: RankRecord,
        ranks: Sequence[int],
        note: str | None = None,
        budget: int | None = None,
    ) -> RankRecord:
        """The record with these ranks, one for each of its layers."""
        layers = tuple(
            replace(layer, rank=rank) for layer, rank in zip(record.layers, ranks, strict=True)
        )
        return replace(
            record,
            layers=layers,
            rule=self.settings.rule,
            threshold=None,
            budget=budget,
            note=note,
            lora_parameters=count_parameters(
                {layer.name: layer.rank for layer in layers}, self.sizes
            ),
            tolerance=self.settings.tolerance,
        )

    def same_rank(self, record: RankRecord, rank: int, note: str) -> RankRecord:
        """The record with this rank in every layer."""
        return self.with_ranks(record, [rank] * len(record.layers), note)


class ByThreshold(Rule):
    """The components with alpha >= lambda, whatever was measured."""

    def choose(self, record: RankRecord) -> RankRecord:
        alpha = _matrix(record, "alpha")
        evidence = record.evidence
        ranks = kept_components(alpha.float(), record.constraint).sum(dim=1).tolist()
        if any(ranks):
            unlearned = evidence is not None and not evidence.learned
            found = self.with_ranks(record, ranks, NOTHING_LEARNED if unlearned else None)
        else:
            found = self.same_rank(
                record, 1, "no alpha reaches the threshold: every layer has rank 1"
            )
        bound = (
            None if record.constraint == "none" else float(thresholds(alpha, record.constraint)[0])
        )
        return replace(found, threshold=bound)


class _Budgeted(Rule):
    """The components of the largest worth per parameter, within a budget."""

    def worth(self, record: RankRecord) -> tuple[Tensor, Tensor | None]:
        """What each component is worth, and which may be taken (None: all). [layers, k]"""
        raise NotImplementedError

    def choose(self, record: RankRecord) -> RankRecord:
        evidence = record.evidence
        settings = self.settings
        if evidence is None and settings.needs_evidence:
            raise UserError(
                f"--choose.rule: {settings.rule} needs what is measured on D_val, which was "
                "not done for this search; allowed here: threshold, or size with a number as "
                "--choose.budget"
            )
        refuse_small_budget(settings, self.sizes.values())
        if evidence is not None and not evidence.learned:
            return self.same_rank(
                record, 1, f"{NOTHING_LEARNED}: every layer has rank 1, whatever the budget"
            )
        if settings.number is not None or evidence is None:
            return self._within(record, settings.number)
        return self._auto(record, evidence)

    def _auto(self, record: RankRecord, evidence: Evidence) -> RankRecord:
        """The ranks within the smallest budget that is enough or, with fewer parameters, the same
        rank everywhere."""
        if evidence.budget_rule != self.settings.rule or not evidence.budget_curve:
            raise UserError(
                "--choose.budget: auto needs the curve of budgets by rule "
                f"{self.settings.rule}, which was not measured; allowed here: a number"
            )
        budget = evidence.sufficient_budget(self.settings.tolerance)
        same = evidence.sufficient_rank(self.settings.tolerance)
        used = (
            math.inf
            if budget is None
            else budget.parameters or parameters_of(budget.at, self.sizes.values())
        )
        # Rank k is never taken, as a larger rank may keep more.
        if same is not None and same < record.k and same * sum(self.sizes.values()) < used:
            why = (
                f"rank {same} in every layer is enough on D_val, and no budget of the curve "
                "with fewer parameters is"
            )
            return replace(self.same_rank(record, same, why), rule=BY_CURVE)
        if budget is not None:
            return self._within(record, budget.at)
        largest = max(point.at for point in evidence.budget_curve)
        why = (
            f"no budget up to an average rank of {largest:g} is enough: components are taken "
            "without a limit"
        )
        return self._within(record, None, why)

    def _within(
        self, record: RankRecord, budget: float | None, note: str | None = None
    ) -> RankRecord:
        """The ranks of the components that are taken for an average rank of `budget` (None: without
        a limit)."""
        sizes = [self.sizes[layer.name] for layer in record.layers]
        limit = None if budget is None else parameters_of(budget, sizes)
        worth, allowed = self.worth(record)
        mask = kept_within(worth, sizes, limit, allowed)
        if not mask.any():
            why = "no component that fits into the budget has a share above its standard error"
            return self.same_rank(record, 1, f"{why}: every layer has rank 1, whatever the budget")
        return self.with_ranks(record, mask.sum(dim=1).tolist(), note, limit)


class ByShares(_Budgeted):
    """The largest shares per parameter of those that exceed their standard errors."""

    def worth(self, record: RankRecord) -> tuple[Tensor, Tensor | None]:
        share = _matrix(record, "share")
        return share, share > _matrix(record, "share_standard_error")


class BySize(_Budgeted):
    """The largest squared singular values per parameter."""

    def worth(self, record: RankRecord) -> tuple[Tensor, Tensor | None]:
        return _matrix(record, "singular_values").square(), None


RULES: dict[type[RuleConfig], type[Rule]] = {
    Threshold: ByThreshold,
    Shares: ByShares,
    Size: BySize,
}
"""Settings of `choose.rule` -> the rule."""


def rule_of(settings: RuleConfig, sizes: Mapping[str, int]) -> Rule:
    """The rule of these settings; `sizes` as in `Rule`."""
    return RULES[type(settings)](settings, sizes)


def refuse_early(settings: RuleConfig, rows: int, sizes: Collection[int]) -> None:
    """Raises UserError, before a search that may take hours, if no ranks could be derived from it.

    `rows`: how many rows D_val has; `sizes`: the LoRA parameters of one component in each layer."""
    if rows < LEAST_ROWS and settings.needs_evidence:
        raise UserError(
            f"--choose.rule: {settings.rule} is measured on D_val, whose {rows} rows are too "
            f"few; allowed: {LEAST_ROWS} or more (give more training rows), or --choose.rule "
            "threshold"
        )
    refuse_small_budget(settings, sizes)


def refuse_small_budget(settings: RuleConfig, sizes: Collection[int]) -> None:
    """Raises UserError for a budget without room for one component of the smallest layer."""
    if settings.number is not None and parameters_of(settings.number, sizes) < min(sizes):
        least = (
            f"{rounded_up(min(sizes) / sum(sizes)):g} or more (one component of the smallest layer)"
        )
        raise UserError(
            f"--choose.budget: {settings.number:g} is not allowed for this model; allowed: "
            f"{least}, or auto"
        )


def rounded_up(number: float) -> float:
    """The number rounded up to three digits: messages call the result allowed, and rounded down it
    would not be."""
    unit = 10.0 ** (2 - math.floor(math.log10(number)))
    return math.ceil(number * unit) / unit


def _matrix(record: RankRecord, name: str) -> Tensor:
    """The values `name` of all layers [layers, k]. Raises UserError if the record lacks them."""
    rows = [getattr(layer, name) for layer in record.layers]
    if any(len(row) != record.k for row in rows):
        raise UserError(
            f"--choose.rule: needs {name} of every layer in ranks.json, which this search did "
            "not measure"
        )
    return torch.tensor(rows, dtype=torch.float64)
