"""The section `answer` of a configuration."""

from dataclasses import dataclass, field
from typing import Literal

from autolora.configs import ranges


@dataclass(frozen=True)
class AnswerConfig:
    """How the finished search is measured on D_val, and how the ranks are chosen."""

    rule: Literal["threshold", "shares", "size"] = "shares"
    """How the rank of each layer is chosen. threshold: the number of its components with alpha >= lambda (paper).
    shares: the singular components with the largest share per parameter over all layers are kept. A component's share
    is its part of what LoRA gains on D_val over the head alone; only shares above their standard errors count. size:
    those with the largest squared singular value per parameter are kept. With shares and size a layer may get rank
    0."""
    budget: ranges.Budget = "auto"
    """Rules shares and size: an average rank; all ranks together have at most as many LoRA parameters as this rank in
    every layer. auto: the smallest of curve_budgets that is enough. One rank in every layer is taken instead if that
    is enough with fewer parameters, or if no budget is enough. If neither is, all components are kept (rule shares:
    those with a share above its standard error)."""
    tolerance: ranges.ShareFromZero = 0.05
    """A rank or budget is enough if its loss on D_val is above that of the searched model by at most this part of what
    that model gains, 1.64 standard errors included. If a lower rank surely does better than the searched model, which
    is then over-fitted, the best such rank takes the model's place."""
    rows: ranges.Judges = 1000
    """Rows of D_val, drawn by seed, on which the shares of the layers and the curve (what lower ranks keep of LoRA's
    gain) are measured. 0 measures nothing; it is allowed for rule threshold, and for size with a number as budget."""
    curve_ranks: ranges.CurveRanks = field(default_factory=list)
    """Ranks at which the curve is measured, in addition to lora.k. Empty: 1, 2, 4, ..."""
    curve_budgets: ranges.Budgets = field(default_factory=lambda: [0.25, 0.5, 1.0, 2.0])
    """Budgets, as average ranks, at which the curve is measured with ranks placed by the rule (with threshold: by
    shares). Each takes a pass over the rows, or two if a head is trained beside LoRA. Of the default list,
    budgets above lora.k are left out."""
    from_run: ranges.FilePathOrNull = None
    """Folder of another run: its finished search is copied instead of searching again, and the ranks are chosen from
    it by this run's rule, budget and tolerance. In the path, {seed}, {task} and {runs} stand for this run's seed, task
    and runs_folder. The key can also be written answer.from."""
