"""The sections `measure` and `choose`: what is measured of a finished search on D_val, and the
rules by which ranks are chosen from it."""

from typing import Annotated, Literal

from pydantic import Field

from autolora.configs.section import (
    CountFromZero,
    FilePath,
    Positive,
    Rank,
    Section,
    ShareFromZero,
)

LEAST_ROWS = 8
"""With fewer rows nothing is measured: what is chosen on four folds of them is measured on the
fifth."""


class MeasureConfig(Section):
    """How the finished search is measured on D_val."""

    from_run: Annotated[FilePath | None, Field(alias="from")] = None
    """Folder of another run: its finished search and measurement are copied instead of searching
    again, and the ranks are chosen from them by this run's rule, budget and tolerance. In the path,
    {seed}, {task} and {runs} stand for this run's seed, task and runs_folder."""
    rows: CountFromZero = 1000
    """Rows of D_val, drawn by seed, on which the shares of the layers and the curve (what lower
    ranks keep of LoRA's gain) are measured. 0 measures nothing; it is allowed for rule threshold,
    and for size with a number as budget."""
    curve_ranks: list[Rank] = []
    """Ranks at which the curve is measured, in addition to lora.k. Empty: 1, 2, 4, ..."""
    curve_budgets: list[Positive] = [0.25, 0.5, 1.0, 2.0]
    """Budgets, as average ranks, at which the curve is measured with ranks placed by the rule (with
    threshold: by shares). Each takes a pass over the rows, or two if a head is trained beside LoRA.
    Those above lora.k are left out."""


class RuleConfig(Section):
    """How the ranks are chosen."""

    rule: str

    tolerance: ShareFromZero = 0.05
    """A rank or budget is enough if its loss on D_val is above that of the searched model by at
    most this part of what that model gains, 1.64 standard errors included. If a lower rank surely
    does better than the searched model, which is then over-fitted, the best such rank takes the
    model's place."""

    @property
    def needs_evidence(self) -> bool:
        """Whether the ranks depend on what is measured on D_val."""
        return False

    @property
    def number(self) -> float | None:
        """The budget as an average rank; None if the rule has none, or finds it."""
        return None


class Threshold(RuleConfig):
    """The paper's rule: the rank of a layer is the number of its components with alpha >=
    lambda."""

    rule: Literal["threshold"] = "threshold"


class _Budgeted(RuleConfig):
    budget: Positive | Literal["auto"] = "auto"
    """An average rank; all ranks together have at most as many LoRA parameters as this rank in
    every layer. auto: the smallest of curve_budgets that is enough. One rank in every layer is
    taken instead if that is enough with fewer parameters, or if no budget is enough. If neither is,
    all components are kept (rule shares: those with a share above its standard error)."""

    @property
    def number(self) -> float | None:
        return None if self.budget == "auto" else self.budget


class Shares(_Budgeted):
    """The singular components with the largest share per parameter over all layers are kept. A
    component's share is its part of what LoRA gains on D_val over the head alone; only shares above
    their standard errors count. A layer may get rank 0."""

    rule: Literal["shares"] = "shares"

    @property
    def needs_evidence(self) -> bool:
        return True


class Size(_Budgeted):
    """The components with the largest squared singular value per parameter are kept. A layer may
    get rank 0."""

    rule: Literal["size"] = "size"

    @property
    def needs_evidence(self) -> bool:
        return self.budget == "auto"


ChooseConfig = Annotated[Shares | Threshold | Size, Field(discriminator="rule")]
