"""The sections `search`, `hypergradient` and `answer`: Algorithm 1, its hypergradients, and the
rules for ranks."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, Union

from pydantic import Discriminator, Field, Tag, model_validator

from autolora.configs.section import (
    CHOOSE,
    COST,
    MEASURE,
    Count,
    CountFromZero,
    FilePath,
    NotNegative,
    Positive,
    Rank,
    Section,
    ShareFromZero,
)
from autolora.configs.user_class import is_own, user_class

OWN_CLASS = "FILE.py:CLASS"
Constraint = Literal["softmax", "sigmoid", "none"]


class SearchConfig(Section):
    """The search: it trains W (LoRA weights and task head) on D_tr, and beta, which gives alpha, on
    D_val."""

    steps: Count = 2000
    """Largest number of inner steps, each on one batch of D_tr; with answer.rule threshold the
    search stops earlier if the ranks settle (patience)."""
    learning_rate: Positive = 1e-4
    """AdamW's learning rate for W. Paper: 1e-4."""
    selection_learning_rate: Positive = 1e-3
    """AdamW's learning rate for beta. Paper: 1e-3."""
    batch_size: Count = 16
    """Examples per batch, of D_tr and of D_val. Paper: 16 (32 for NER)."""
    gradient_accumulation: Count = 1
    """Batches per step, of D_tr and of D_val. More batches with a smaller batch_size need less
    memory; the step is that of one large batch."""
    weight_decay: NotNegative = 0.01
    """AdamW's weight decay for W; beta has none, as decay would pull alpha to uniform."""
    warmup_ratio: ShareFromZero = 0.06
    """Share of the steps over which the learning rate of W rises from 0."""
    scheduler: Literal["linear", "cosine", "constant"] = "constant"
    """How the learning rate of W changes after the warm-up."""
    gradient_clipping: NotNegative = 1.0
    """Largest norm of W's gradient; 0 switches clipping off."""
    unroll_steps: Count = 1
    """Inner steps per outer step. Paper: 1."""
    constraint: Constraint = "softmax"
    """How alpha is computed from beta: softmax (Eq. 3), or the ablations sigmoid and none."""
    gate: Literal["start", "paper"] = "start"
    """What multiplies component j. start: alpha_j divided by its start value, so the search starts
    as plain LoRA; paper: alpha_j."""
    dropout: bool = True
    """true: dropout (the base model's, and lora.dropout) is on in inner and outer steps; false: it
    is off."""
    check_every: Count | None = None
    """Rule threshold: steps between two checks of the ranks; null: 20."""
    patience: CountFromZero | None = None
    """Rule threshold: the search stops when no rank changed for this many checks in a row; with 0
    it never stops early; null: 10."""
    max_bad_steps: Annotated[CountFromZero, COST] = 20
    """How many steps the search may skip in total because a loss or gradient is not finite; one
    more ends it with an error."""
    log_every: Count = 10
    """Steps between two logged points of the trajectory and the metrics."""
    checkpoint_every: Annotated[Count, COST] = 200
    """Steps between two checkpoints."""

    @property
    def checks(self) -> tuple[int, int]:
        """Steps between two checks of the ranks, and the checks in a row without a change that end
        the search."""
        return self.check_every or 20, 10 if self.patience is None else self.patience


class HypergradientConfig(Section):
    """How the gradient of L_val(W(alpha)) with respect to beta is approximated. Paper: darts."""

    type: str

    second_order: ClassVar[bool] = False
    """Whether it needs second derivatives."""
    moves_alpha: ClassVar[bool] = True
    """Whether the search takes outer steps."""


class FirstOrder(HypergradientConfig):
    """eta = 0: no implicit term."""

    type: Literal["first_order"] = "first_order"


class Nothing(HypergradientConfig):
    """A control, which trains plain LoRA of rank k on D_tr while alpha stays at its start."""

    type: Literal["none"] = "none"

    moves_alpha: ClassVar[bool] = False


class Implicit(HypergradientConfig):
    """With an implicit term: the part of the gradient that follows how W depends on beta."""

    eta: NotNegative | Literal["lr", "betty"] = "betty"
    """Size of the inner step in the implicit term: a number, lr (Eq. 4: the current learning rate
    of W), or betty (1, as in the paper's code)."""


class Difference(Implicit):
    """A finite difference along W."""

    radius: Positive = 0.01
    """Length of the difference in the space of W. Betty: 0.01."""


class Darts(Difference):
    """The central difference of DARTS."""

    type: Literal["darts"] = "darts"


class ForwardDifference(Difference):
    """A forward difference, which saves a pass."""

    type: Literal["forward_difference"] = "forward_difference"


class Sama(Difference):
    """SAMA: a difference along the step that the optimiser would take."""

    type: Literal["sama"] = "sama"


class Series(Implicit):
    """Hessian-vector products."""

    terms: CountFromZero = 3
    """Number of products."""

    second_order: ClassVar[bool] = True


class Neumann(Series):
    """The Neumann series of the inverse Hessian."""

    type: Literal["neumann"] = "neumann"


class ConjugateGradient(Series):
    """Conjugate gradients for the inverse Hessian."""

    type: Literal["cg"] = "cg"


class Exact(Implicit):
    """Second derivatives through the last inner step, as SGD."""

    type: Literal["exact"] = "exact"

    second_order: ClassVar[bool] = True


class ExactAdamW(Implicit):
    """Second derivatives through the last inner step of AdamW."""

    type: Literal["exact_adamw"] = "exact_adamw"

    second_order: ClassVar[bool] = True


class Unrolled(Implicit):
    """Second derivatives through all inner steps since the last outer step."""

    type: Literal["unrolled"] = "unrolled"

    second_order: ClassVar[bool] = True


class OwnHypergradient(HypergradientConfig):
    """An approximation of your own: a class in a file, FILE.py:CLASS."""

    type: Annotated[str, Field(pattern=r"^.+\.py:[A-Za-z_]\w*$")]
    options: dict[str, Any] = {}
    """Its arguments by name, such as "{rate: 0.1}"."""

    @property
    def second_order(self) -> bool:  # type: ignore[override]
        """As for every type; its class says so, for which its file is run."""
        return bool(getattr(user_class(self.type, "hypergradient.type"), "second_order", False))


BUILT_IN: dict[str, type[HypergradientConfig]] = {
    kind.model_fields["type"].default: kind
    for kind in (
        FirstOrder,
        Darts,
        ForwardDifference,
        Sama,
        Neumann,
        ConjugateGradient,
        Exact,
        ExactAdamW,
        Unrolled,
        Nothing,
    )
}
COMPARED = [name for name, kind in BUILT_IN.items() if kind.moves_alpha]
"""The types of our own approximations."""


def _type_of(value: Any) -> str | None:
    """The tag of a hypergradient's class: FILE.py:CLASS has one for all."""
    chosen = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return OWN_CLASS if is_own(str(chosen)) else chosen


if TYPE_CHECKING:
    Hypergradient = HypergradientConfig
else:
    _TAGGED = tuple(
        Annotated[kind, Tag(name)]
        for name, kind in [*BUILT_IN.items(), (OWN_CLASS, OwnHypergradient)]
    )
    Hypergradient = Annotated[Union[_TAGGED], Discriminator(_type_of)]  # noqa: UP007


class ProbeConfig(Section):
    """Stage probe compares all approximations with the exact one-step unroll along the search of
    these settings."""

    steps: Annotated[list[Count], Field(min_length=1)] = [10, 20, 40, 60]
    """Search steps at which they are compared from the same trained state, each at the last outer
    step up to there."""
    etas: Annotated[list[NotNegative | Literal["lr", "betty"]], Field(min_length=1)] = [
        "lr",
        "betty",
    ]
    """Values of hypergradient.eta at which they are compared."""


class AnswerConfig(Section):
    """How the finished search is measured on D_val, and how the ranks are chosen."""

    rule: str

    from_run: Annotated[FilePath | None, Field(alias="from")] = None
    """Folder of another run: its finished search and measurement are copied instead of searching
    again, and the ranks are chosen from them by this run's rule, budget and tolerance. In the path,
    {seed}, {task} and {runs} stand for this run's seed, task and runs_folder."""
    tolerance: Annotated[ShareFromZero, CHOOSE] = 0.05
    """A rank or budget is enough if its loss on D_val is above that of the searched model by at
    most this part of what that model gains, 1.64 standard errors included. If a lower rank surely
    does better than the searched model, which is then over-fitted, the best such rank takes the
    model's place."""
    rows: Annotated[CountFromZero, MEASURE] = 1000
    """Rows of D_val, drawn by seed, on which the shares of the layers and the curve (what lower
    ranks keep of LoRA's gain) are measured. 0 measures nothing; it is allowed for rule threshold,
    and for size with a number as budget."""
    curve_ranks: Annotated[list[Rank], MEASURE] = []
    """Ranks at which the curve is measured, in addition to lora.k. Empty: 1, 2, 4, ..."""
    curve_budgets: Annotated[list[Positive], MEASURE] = [0.25, 0.5, 1.0, 2.0]
    """Budgets, as average ranks, at which the curve is measured with ranks placed by the rule (with
    threshold: by shares). Each takes a pass over the rows, or two if a head is trained beside LoRA.
    Those above lora.k are left out."""

    @property
    def needs_evidence(self) -> bool:
        """Whether the ranks depend on what is measured on D_val."""
        return False

    @property
    def number(self) -> float | None:
        """The budget as an average rank; None if the rule has none, or finds it."""
        return None

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if self.from_run is None and self.rows < 8 and (self.rows or self.needs_evidence):
            raise ValueError(
                f"rows: {self.rows} are too few to measure on D_val; allowed: 8 or more"
            )
        return self


class Threshold(AnswerConfig):
    """The paper's rule: the rank of a layer is the number of its components with alpha >=
    lambda."""

    rule: Literal["threshold"] = "threshold"


class _Budgeted(AnswerConfig):
    budget: Annotated[Positive | Literal["auto"], CHOOSE] = "auto"
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


Answer = Annotated[Shares | Threshold | Size, Field(discriminator="rule")]
