"""Doubts about the implicit term of the hypergradient: rounding in bf16, an unroll of one step, a term that is not
finite or that hides the direct one."""

import logging

from torch import nn

from autolora.configs.own_class import is_own
from autolora.configs.schema import Autolora
from autolora.configs.search import Difference, Implicit, Neumann, Series
from autolora.engine.search.engine import SearchEngine
from autolora.problems.machine.compute import holds_bf16

log = logging.getLogger("autolora")

HIDES = 100.0
"""The implicit term hides the direct one if it is more than this many times as large."""


def warn_about_rounded_difference(model: nn.Module, config: Autolora) -> None:
    """Warns of a finite difference whose two sides are computed with frozen weights that round to bf16, if its term
    counts.

    With an eta of the learning rate or less, the implicit term is about 1 % of the direct one, so that its error does
    not matter; but that of sama stays about as large as the direct one."""
    hypergradient = config.hypergradient
    if not isinstance(hypergradient, Difference) or is_own(hypergradient.type):
        return
    eta = hypergradient.eta
    small = eta == "lr" or (isinstance(eta, float | int) and eta <= config.search.learning_rate)
    if (small and not hypergradient.may_hide) or not holds_bf16(model):
        return
    log.warning(
        "--hypergradient.type %s: with weights in bf16 or 4 bits a finite difference loses accuracy to rounding "
        "(docs/hypergradients.md); take first_order or exact", hypergradient.type,
    )  # fmt: skip


def warn_about_short_unroll(config: Autolora) -> None:
    """Warns of an unroll over a single inner step: it is what `exact` computes."""
    if config.hypergradient.reads_steps and config.search.unroll_steps == 1:
        log.warning(
            "--hypergradient.type %s: with --search.unroll_steps 1 it computes what exact computes; give more inner "
            "steps for each outer one", config.hypergradient.type,
        )  # fmt: skip


def warn_about_large_term(engine: SearchEngine, config: Autolora) -> None:
    """Warns if the last implicit term was so large that alpha followed nothing else: that of a Neumann series that
    diverges, of sama or of a long unroll with an eta far above the learning rate, or of an approximation of the user's
    own.

    (That of a one-step unroll is large only if the direct one vanishes, as at the end of a search that has learned its
    task; then nothing is wrong.)
    """
    ratio = engine.selection.diagnostics()["implicit_to_direct"]
    if _may_hide(config) and (ratio or 0.0) > HIDES:
        log.warning(
            "in the last outer step the implicit term was %.3g times the direct one, so alpha followed it alone; %s",
            ratio, smaller_term(config),
        )  # fmt: skip


def _may_hide(config: Autolora) -> bool:
    """Whether the implicit term may be so large that it hides the direct one; that of a one-step unroll is not."""
    chosen = config.hypergradient
    if is_own(chosen.type):
        return True
    one_step = (chosen.reads_steps and config.search.unroll_steps == 1) or (
        isinstance(chosen, Series) and chosen.terms == 0
    )
    return chosen.may_hide and not one_step


def term_is_not_finite(engine: SearchEngine) -> bool:
    """Whether steps were skipped because the implicit term was not finite: outer steps alone were skipped, and the
    direct gradient is finite."""
    outer = engine.selection
    finite, term = bool(outer.direct.isfinite().all()), bool(outer.implicit.isfinite().all())
    return int(engine.lora.own_skips) == 0 and finite and not term


def smaller_term(config: Autolora) -> str:
    """What to change if the implicit term is too large, or not finite: neither learning rate changes it much, unless
    eta is `lr`."""
    chosen = config.hypergradient
    if not isinstance(chosen, Implicit):
        return f"look into {chosen.type}"
    lower = f"lower --hypergradient.eta (now {chosen.eta if isinstance(chosen.eta, str) else f'{chosen.eta:g}'})"
    if isinstance(chosen, Neumann) and chosen.terms > 0:
        return f"the Neumann series diverges: {lower} or --hypergradient.terms (now {chosen.terms})"
    return f"{lower}, or look into {chosen.type}" if is_own(chosen.type) else lower
