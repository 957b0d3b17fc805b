"""Warn about a search that goes wrong, or stop it: a class without examples, losses that are not finite, a finite
difference in bf16, an implicit term that is not finite or hides the direct one, an alpha that collapsed, ranks that
never changed."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import nn

from configs.errors import UserError
from configs.facts import moves_alpha
from configs.hypergradients import BUILT_IN
from configs.own_class import is_own
from configs.schema import RunConfig
from engine.ranks.rules import SUM_TO_ONE
from engine.search.engine import SearchEngine
from engine.search.trajectory import Trajectory
from problems.machine.compute import holds_bf16
from problems.tasks.given import GivenRows
from problems.tasks.labels import IGNORED, count_labels

log = logging.getLogger("autolora")

COLLAPSED = 0.99
"""alpha of a layer has collapsed if one of its components has a larger alpha than this."""
HIDES = 100.0
"""The implicit term hides the direct one if it is more than this many times as large."""


def refuse_many_skips(engine: SearchEngine, config: RunConfig) -> None:
    """Raises UserError if more than `search.max_bad_steps` steps were skipped for a loss or gradient that is not
    finite."""
    skipped = int(engine.own_skips())
    if skipped <= config.search.max_bad_steps:
        return
    loader = engine.lora.train_data_loader[0]
    raise UserError(
        f"--search.max_bad_steps: by step {engine.global_step} (epoch {loader.epoch}, batch {loader.position} of "
        f"D_tr) {skipped} steps had a loss or gradient that is not finite, allowed {config.search.max_bad_steps}; "
        f"{_remedy(engine, config)}, with --overwrite"
    )


def _remedy(engine: SearchEngine, config: RunConfig) -> str:
    """What to change so that fewer steps are skipped."""
    if unlabelled := _without_label(engine.lora.train_data_loader[0].rows):
        return unlabelled
    if _term_is_not_finite(engine):
        return _smaller_term(config)
    search = config.search
    rates = f"--search.learning_rate is {search.learning_rate:g}: lower it"
    if moves_alpha(config):
        outer = f"--search.selection_learning_rate {search.selection_learning_rate:g}"
        rates = f"--search.learning_rate is {search.learning_rate:g}, {outer}: lower them"
    others = [] if config.precision == "fp32" else ["--precision fp32"]
    others.append(f"more --search.warmup_ratio (now {search.warmup_ratio:g})")
    if not 0 < search.gradient_clipping <= 1:  # 0: gradients are not clipped
        others.append("--search.gradient_clipping 1")
    return f"{rates}, or try {', '.join(others)}"


def _without_label(rows: Any) -> str:
    """Says how many examples of a script have no label, and what to do; "" if each has one. (Each row of the command
    line has one: `problems/data.py` leaves the others out.)"""
    if not isinstance(rows, GivenRows):
        return ""
    count = sum(count_labels(labels) == 0 for labels in rows["labels"])
    what = f"{count} of the {len(rows)} examples of D_tr have no label, so that a batch of them has no loss"
    return f"{what}: leave them out, or take a larger search.batch_size" if count else ""


def _term_is_not_finite(engine: SearchEngine) -> bool:
    """Whether steps were skipped because the implicit term was not finite: outer steps alone were skipped, and the
    direct gradient is finite."""
    outer = engine.selection
    finite, term = bool(outer.direct.isfinite().all()), bool(outer.implicit.isfinite().all())
    return int(engine.lora.own_skips) == 0 and finite and not term


def _smaller_term(config: RunConfig) -> str:
    """What to change if the implicit term is too large, or not finite: neither learning rate changes it much, unless
    eta is `lr`."""
    chosen = config.hypergradient
    lower = f"lower --hypergradient.eta (now {chosen.eta if isinstance(chosen.eta, str) else f'{chosen.eta:g}'})"
    if chosen.type == "neumann" and chosen.terms > 0:
        return f"the Neumann series diverges: {lower} or --hypergradient.terms (now {chosen.terms})"
    return f"{lower}, or look into {chosen.type}" if is_own(chosen.type) else lower


def warn_about_missing_classes(
    labels: Sequence[int | Sequence[int]], d_tr: np.ndarray, d_val: np.ndarray, names: Mapping[int, str],
    seed: str = "--seed",
) -> None:  # fmt: skip
    """Warns of a class without an example in D_tr or D_val: W or beta then learns nothing about it.

    `labels` are those of all training rows: a class number, or those of a sentence's tags. They are checked only if
    `names` names the classes. `seed`: the option whose seed draws D_tr and D_val.
    """
    if not names:
        return
    each = [set(np.atleast_1d(label).tolist()) - {IGNORED} for label in labels]
    for part, rows in ("D_tr", d_tr), ("D_val", d_val):
        missing = sorted(set().union(*each) - set().union(*(each[row] for row in rows)))
        if missing:
            log.warning(
                "%s has no example of class %s: give more rows, another %s or --task.validation_share",
                part, ", ".join(names[number] for number in missing), seed,
            )  # fmt: skip


def warn_about_rounded_difference(model: nn.Module, config: RunConfig) -> None:
    """Warns of a finite difference whose two sides are computed with frozen weights that round to bf16, if its term
    counts.

    With an eta of the learning rate or less, the implicit term is about 1 % of the direct one, so that its error does
    not matter; but that of sama stays about as large as the direct one."""
    hypergradient, eta = config.hypergradient, config.hypergradient.eta
    facts = BUILT_IN.get(hypergradient.type)
    if facts is None or not facts.difference or hypergradient.fp32_difference:
        return
    small = eta == "lr" or (isinstance(eta, float | int) and eta <= config.search.learning_rate)
    if (small and not facts.may_hide) or not holds_bf16(model):
        return
    log.warning(
        "--hypergradient.type %s: with weights in bf16 or 4 bits a finite difference loses accuracy to rounding "
        "(docs/hypergradients.md); take first_order or exact, or set --hypergradient.fp32_difference true",
        hypergradient.type,
    )


def warn_about_short_unroll(config: RunConfig) -> None:
    """Warns of an unroll over a single inner step: it is what `exact` computes."""
    facts = BUILT_IN.get(config.hypergradient.type)
    if facts is not None and facts.reads_steps and config.search.unroll_steps == 1:
        log.warning(
            "--hypergradient.type %s: with --search.unroll_steps 1 it computes what exact computes; give more inner "
            "steps for each outer one", config.hypergradient.type,
        )  # fmt: skip


def warn_about_still_alpha(engine: SearchEngine, config: RunConfig) -> bool:
    """Warns if at least half of the outer steps were skipped, so that alpha was trained for far fewer steps than set.
    Returns whether it warned.

    A step is skipped, and moves no alpha, if its loss or gradient, or that of the inner step before it, is not finite.
    """
    outer = engine.global_step // config.search.unroll_steps
    still = int(engine.selection.skipped_steps)
    warns = outer > 0 and 2 * still >= outer
    if warns:
        lower = (
            f"lower --search.learning_rate (now {config.search.learning_rate:g}) or "
            f"--search.selection_learning_rate (now {config.search.selection_learning_rate:g})"
            f"{'' if config.precision == 'fp32' else ', or try --precision fp32'}"
        )
        log.warning(
            "alpha moved in %d of %d outer steps%s: in the others a loss or gradient was not finite; %s",
            outer - still, outer, ", so the ranks are still those of the start" if still == outer else "",
            _smaller_term(config) if _term_is_not_finite(engine) else lower,
        )  # fmt: skip
    return warns


def warn_about_large_term(engine: SearchEngine, config: RunConfig) -> None:
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
            ratio, _smaller_term(config),
        )  # fmt: skip


def _may_hide(config: RunConfig) -> bool:
    """Whether the implicit term may be so large that it hides the direct one; that of a one-step unroll is not."""
    chosen = config.hypergradient
    if is_own(chosen.type):
        return True
    facts = BUILT_IN[chosen.type]
    one_step = (facts.reads_steps and config.search.unroll_steps == 1) or (
        "terms" in facts.reads and chosen.terms == 0
    )
    return facts.may_hide and not one_step


def warn_about(trajectory: Trajectory, config: RunConfig) -> None:
    """Warns of doubtful ranks: alpha collapsed in more than half of the layers, or no rank ever changed."""
    alpha = np.stack(trajectory.alpha)
    if alpha.shape[2] == 1 or not moves_alpha(config):
        return
    collapsed = int((alpha[-1].max(axis=1) > COLLAPSED).sum())
    if config.search.constraint in SUM_TO_ONE and 2 * collapsed > alpha.shape[1]:
        log.warning(
            "alpha has collapsed: one component is above %s in %d of %d layers; lower "
            "--search.selection_learning_rate (now %g) or --search.steps",
            COLLAPSED, collapsed, alpha.shape[1], config.search.selection_learning_rate,
        )  # fmt: skip
    ranks = trajectory.ranks(config.search.constraint, range(len(alpha)))
    if config.answer.rule == "threshold" and (ranks == ranks[0]).all():
        key = "patience" if trajectory.steps[-1] < config.search.steps else "steps"
        log.warning(
            "no rank ever changed: raise --search.selection_learning_rate (now %g) or --search.%s (now %d)",
            config.search.selection_learning_rate, key, getattr(config.search, key),
        )  # fmt: skip
