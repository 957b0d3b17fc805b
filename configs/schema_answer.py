"""The section `answer` of a configuration."""

from dataclasses import dataclass, field
from typing import Literal

from configs import ranges


@dataclass(frozen=True)
class AnswerConfig:
    """After the search: what D_val says of it, and the ranks."""

    rule: Literal["threshold", "shares", "size"] = "threshold"
    """Ranks of the layers. threshold: as many as components with alpha >= lambda (paper); shares: the singular
    components of all layers with the largest share per parameter of what switching LoRA off would cost on D_val, only
    those above noise; size: those with the largest squared singular value per parameter. By shares and size a layer
    may end at rank 0."""
    budget: ranges.Budget = "auto"
    """rules shares and size: an average rank; all ranks together use at most the LoRA parameters of this rank in every
    layer. auto: the smallest of 0.25, 0.5, 1 and 2 that is enough, else all components above noise."""
    tolerance: ranges.ShareFromZero = 0.05
    """A rank or budget is enough when it loses at most this part of what LoRA gains on D_val."""
    rows: ranges.Judges = 1000
    """Rows of D_val that shares and curve are measured on, drawn by seed; 0 measures nothing, which rule threshold
    allows."""
    curve_ranks: ranges.CurveRanks = field(default_factory=list)
    """Ranks at which the curve is measured, besides lora.k, which always is. Empty: 1, 2, 4, ..."""
    from_run: ranges.FilePathOrNull = None
    """Folder of a run whose finished search is answered again by this run's rule, budget and tolerance, in place of a
    new search; {seed}, {task} and {runs} stand for the run's own. Also written answer.from."""
