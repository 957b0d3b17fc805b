"""What the rank rules need from a search, checked before the search, which may take hours."""

import math
from collections.abc import Collection

from autolora.configs.errors import UserError
from autolora.configs.search import AnswerConfig
from autolora.engine.cut.budget import parameters_of
from autolora.engine.measure.evidence import LEAST_ROWS


def refuse_unanswerable(answer: AnswerConfig, rows: int, sizes: Collection[int]) -> None:
    """Raises UserError if no ranks could be derived from a search.

    `rows`: how many rows D_val has; `sizes`: the LoRA parameters of one component in each layer.
    """
    if rows < LEAST_ROWS and answer.needs_evidence:
        raise UserError(
            f"--answer.rule: {answer.rule} is measured on D_val, whose {rows} rows are too few; allowed: {LEAST_ROWS} "
            f"or more (give more training rows or a larger --task.validation_share), or --answer.rule threshold"
        )
    refuse_small_budget(answer, sizes)


def refuse_small_budget(answer: AnswerConfig, sizes: Collection[int]) -> None:
    """Raises UserError for a budget without room for one component of the smallest layer, and for budget auto if no
    budget of the curve has room for one."""
    if answer.rule == "threshold":
        return
    least = f"{rounded_up(min(sizes) / sum(sizes)):g} or more (one component of the smallest layer)"
    if answer.number is None:
        curve = [] if answer.from_run is not None else answer.curve_budgets
        if curve and all(parameters_of(budget, sizes) < min(sizes) for budget in curve):
            raise UserError(
                f"--answer.curve_budgets: none is large enough for this model; allowed: at least one budget of {least}"
            )
    elif parameters_of(answer.number, sizes) < min(sizes):
        raise UserError(f"--answer.budget: {answer.number:g} is not allowed for this model; allowed: {least}, or auto")


def rounded_up(number: float) -> float:
    """The number rounded up to three digits: messages call the result allowed, and rounded down it would not be."""
    unit = 10.0 ** (2 - math.floor(math.log10(number)))
    return math.ceil(number * unit) / unit
