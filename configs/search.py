"""The sections `search`, `hypergradient` and `probe`: Algorithm 1, its hypergradients, and their
comparison."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union

from pydantic import Discriminator, Field, Tag

from autolora.configs.section import (
    COST,
    Count,
    CountFromZero,
    NotNegative,
    Positive,
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
    """Largest number of inner steps, each on one batch of D_tr; with choose.rule threshold the
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
