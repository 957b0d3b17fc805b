"""Derive ranks from stored measurements by the configured rule; no model is run."""

import dataclasses

import torch
from torch import Tensor

from autolora.configs.errors import UserError
from autolora.configs.search import AnswerConfig
from autolora.engine.choose.words import NOTHING_LEARNED
from autolora.engine.cut.budget import parameters_of
from autolora.engine.measure.evidence import SEEN, Evidence
from autolora.engine.measure.measure import within
from autolora.engine.ranks.needs import refuse_small_budget
from autolora.engine.ranks.record import BY_CURVE, RankRecord, count_parameters
from autolora.engine.ranks.rules import kept_components, thresholds


def decided(record: RankRecord, settings: AnswerConfig, sizes: dict[str, int]) -> RankRecord:
    """The record with ranks by the configured rule: threshold as in the paper, or shares or size.

    `sizes`: layer name -> LoRA parameters of one component. Every layer gets rank 1, and the note says so, if no alpha
    reaches the threshold, if no component can be taken, and with shares and size if the evidence shows no gain of
    LoRA; a budget may then be exceeded, which the note says, too. With budget auto every layer gets the same rank, and
    the note says so, if that is enough and takes the fewest parameters; the record's rule is then BY_CURVE. Raises
    UserError for a budget that cannot be met, and for a rule whose measurements the record lacks.
    """
    record = dataclasses.replace(record, tolerance=settings.tolerance)
    if settings.rule == "threshold":
        return _by_threshold(record, sizes)
    if record.evidence is None and settings.rule == "shares":
        raise UserError("--answer.rule: shares are measured on D_val, which was not done for this search; allowed "
                        "here: threshold, or size with a number as --answer.budget")  # fmt: skip
    if record.evidence is not None and not record.evidence.learned:
        why = f"{NOTHING_LEARNED}, so no ranks can be derived from its shares: {_rank_1(settings, sizes)}"
        return _with_same(record, sizes, 1, rule=settings.rule, notes=[*_few(record.evidence), why])
    of_layers = [sizes[layer.name] for layer in record.layers]
    refuse_small_budget(settings, of_layers)
    budget, told = _budget(record.evidence, settings)
    same = _same_rank(record, of_layers) if settings.number is None else None
    if same is not None:
        why = f"rank {same} in every layer is enough on D_val, and no budget of the curve with fewer parameters is"
        return _with_same(record, sizes, same, rule=BY_CURVE, notes=[*_doubts(record.evidence), why])
    return _within_budget(record, settings, sizes, budget, _doubts(record.evidence) + told)


def _by_threshold(record: RankRecord, sizes: dict[str, int]) -> RankRecord:
    """The record with the paper's ranks, whatever was measured."""
    alpha, notes = _matrix(record, "alpha").float(), _doubts(record.evidence)
    kept = kept_components(alpha, record.constraint).sum(dim=1).tolist()  # type: ignore[arg-type]
    if any(kept):
        return _with(record, sizes, kept, rule="threshold", notes=notes)
    notes.append("no alpha reaches the threshold: every layer has rank 1")
    return _with_same(record, sizes, 1, rule="threshold", notes=notes)


def _within_budget(
    record: RankRecord, settings: AnswerConfig, sizes: dict[str, int], budget: float | None, notes: list[str]
) -> RankRecord:
    """The record with the ranks of the components that rule shares or size takes for an average rank of `budget`
    (None: without a limit). `notes`: what is to be said before what these ranks call for."""
    of_layers = [sizes[layer.name] for layer in record.layers]
    mask, allowed = _by_worth(record, settings.rule, of_layers, budget)
    if not mask.any():
        why = "fits into the budget" if allowed.any() else "has a share above its standard error"
        told = f"no component {why}: {_rank_1(settings, sizes)}"
        return _with_same(record, sizes, 1, rule=settings.rule, notes=[*notes, told])
    limit = None if budget is None else parameters_of(budget, of_layers)
    rest = [] if limit is None else _rest(mask, allowed, of_layers, limit)
    unseen = _unseen(record, mask) if settings.rule == "shares" else []
    ranks = mask.sum(dim=1).tolist()
    return _with(record, sizes, ranks, rule=settings.rule, notes=notes + rest + unseen, budget=limit)


def _by_worth(record: RankRecord, rule: str, of_layers: list[int], budget: float | None) -> tuple[Tensor, Tensor]:
    """The components that rule shares or size takes, and those that it could take if the budget had room for all.
    Both boolean [layers, k]."""
    singular = _matrix(record, "singular_values")
    if rule == "size":
        share, error = torch.ones_like(singular), torch.zeros_like(singular)
    else:
        share, error = _matrix(record, "share"), _matrix(record, "share_standard_error")
    return within(rule, share, error, singular, of_layers, budget), share > error


def _rank_1(settings: AnswerConfig, sizes: dict[str, int]) -> str:
    """Says that every layer has rank 1, and whether that exceeds the budget."""
    budget = None if settings.number is None else parameters_of(settings.number, list(sizes.values()))
    total = sum(sizes.values())
    if budget is None or total <= budget:
        return "every layer has rank 1"
    return f"every layer has rank 1 ({total:,} LoRA parameters, more than the budget's {budget:,})"


def _rest(mask: Tensor, allowed: Tensor, of_layers: list[int], limit: int) -> list[str]:
    """A note that says why the budget is not used up, if it has room for one more component; else no note."""
    used = int(mask.sum(dim=1) @ torch.tensor(of_layers))
    if limit - used < min(of_layers):
        return []
    why = (
        "none of the others fits"
        if (allowed & ~mask).any()
        else "no other component has a share above its standard error"
    )
    return [f"{used:,} of the budget's {limit:,} LoRA parameters are used: {why}"]


def _unseen(record: RankRecord, mask: Tensor) -> list[str]:
    """A note about layers that keep a component although the share of the whole layer may be noise."""
    kept = mask.any(dim=1).tolist()
    unseen = sum(keeps and not layer.seen for layer, keeps in zip(record.layers, kept, strict=True))
    if not unseen:
        return []
    has = "has a share" if unseen == 1 else "have shares"
    noise = f"may be noise (less than {SEEN:g} standard errors above 0)"
    return [f"{unseen} of the {sum(kept)} layers with LoRA {has} that {noise}"]


def _with(
    record: RankRecord, sizes: dict[str, int], ranks: list[int], rule: str, notes: list[str], budget: int | None = None
) -> RankRecord:
    layers = tuple(
        dataclasses.replace(layer, rank=rank, decided=layer.decided if rule == "threshold" else None)
        for layer, rank in zip(record.layers, ranks, strict=True)
    )
    parameters = count_parameters({layer.name: layer.rank for layer in layers}, sizes)
    bound = None
    if rule == "threshold" and record.constraint != "none":
        bound = float(thresholds(_matrix(record, "alpha"), record.constraint)[0])  # type: ignore[arg-type]
    return dataclasses.replace(
        record, layers=layers, rule=rule, threshold=bound, budget=budget, lora_parameters=parameters,
        note="; ".join(notes) or None,
    )  # fmt: skip


def _with_same(record: RankRecord, sizes: dict[str, int], rank: int, rule: str, notes: list[str]) -> RankRecord:
    """The record with this rank in every layer."""
    return _with(record, sizes, [rank] * len(record.layers), rule, notes)


def _doubts(evidence: Evidence | None) -> list[str]:
    """Notes about weak evidence, for every rule: too few rows, or no gain of LoRA."""
    if evidence is None:
        return []
    return _few(evidence) + (_incomplete(evidence) if evidence.learned else [NOTHING_LEARNED])


def _incomplete(evidence: Evidence) -> list[str]:
    """A note if the shares miss the measured fall of the loss even at the doubled number of nodes."""
    total = evidence.share_total + evidence.head_share
    if abs(total - evidence.fall) <= evidence.allowed_gap * abs(evidence.fall):
        return []
    return [f"the shares are inexact: with that of the head they sum to {total:.3g} nats, but the loss falls by "
            f"{evidence.fall:.3g}"]  # fmt: skip


def _few(evidence: Evidence) -> list[str]:
    return [evidence.few] if evidence.few else []


def _budget(evidence: Evidence | None, settings: AnswerConfig) -> tuple[float | None, list[str]]:
    """The average rank that may be spent (None: no limit), and notes about it."""
    if settings.number is not None:
        return settings.number, []
    if evidence is None or evidence.budget_rule != settings.rule or not evidence.budget_curve:
        raise UserError(
            f"--answer.budget: auto needs the curve of budgets by rule {settings.rule}, which was not measured; "
            f"allowed here: a number"
        )
    found = evidence.sufficient_budget(settings.tolerance)
    largest = max(point.at for point in evidence.budget_curve)
    if found is None:
        return None, [f"no budget up to an average rank of {largest:g} is enough: all components are taken"
                      + (" whose share is above its standard error; the simpler choice is the largest rank "
                         "in every layer (--method lora)" if settings.rule == "shares" else "")]  # fmt: skip
    return found.at, []


def _same_rank(record: RankRecord, of_layers: list[int]) -> int | None:
    """The rank that is enough in every layer, if budget auto should take it; else None.

    It should if no budget is enough, or if this rank takes fewer LoRA parameters than the components within the
    smallest budget that is enough. Rank k is never taken, as a larger rank may keep more.

    `of_layers`: LoRA parameters of one component of each layer."""
    evidence = record.evidence
    enough = None if evidence is None else evidence.sufficient_rank(record.tolerance)
    if evidence is None or enough is None or enough >= record.k:
        return None
    budget = evidence.sufficient_budget(record.tolerance)
    if budget is None:
        return enough
    used = parameters_of(budget.at, of_layers) if budget.parameters is None else budget.parameters
    return enough if enough * sum(of_layers) < used else None


def _matrix(record: RankRecord, name: str) -> Tensor:
    """The values `name` of all layers [layers, k]. Raises UserError if the record lacks them."""
    rows = [getattr(layer, name) for layer in record.layers]
    if any(len(row) != record.k for row in rows):
        raise UserError(f"--answer.rule: needs {name} of every layer in ranks.json, which this search did not measure")
    return torch.tensor(rows, dtype=torch.float64)
