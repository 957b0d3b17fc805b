"""Warn about a search that goes wrong, or stop it: a class without examples, losses that are not finite, an alpha that
collapsed, ranks that never changed."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from autolora.configs.errors import UserError
from autolora.configs.schema import Autolora
from autolora.engine.ranks.rules import SUM_TO_ONE
from autolora.engine.search.engine import SearchEngine
from autolora.engine.search.implicit_term import smaller_term, term_is_not_finite
from autolora.engine.search.trajectory import Trajectory
from autolora.problems.tasks.given import GivenRows
from autolora.problems.tasks.labels import IGNORED, count_labels

log = logging.getLogger("autolora")

COLLAPSED = 0.99
"""alpha of a layer has collapsed if one of its components has a larger alpha than this."""


def refuse_many_skips(engine: SearchEngine, config: Autolora) -> None:
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


def _remedy(engine: SearchEngine, config: Autolora) -> str:
    """What to change so that fewer steps are skipped."""
    if unlabelled := _without_label(engine.lora.train_data_loader[0].rows):
        return unlabelled
    if term_is_not_finite(engine):
        return smaller_term(config)
    search = config.search
    rates = f"--search.learning_rate is {search.learning_rate:g}: lower it"
    if config.hypergradient.moves_alpha:
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


def warn_about_still_alpha(engine: SearchEngine, config: Autolora) -> bool:
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
            smaller_term(config) if term_is_not_finite(engine) else lower,
        )  # fmt: skip
    return warns


def warn_about(trajectory: Trajectory, config: Autolora) -> None:
    """Warns of doubtful ranks: alpha collapsed in more than half of the layers, or no rank ever changed."""
    alpha = np.stack(trajectory.alpha)
    if alpha.shape[2] == 1 or not config.hypergradient.moves_alpha:
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
            config.search.selection_learning_rate, key,
            config.search.checks[1] if key == "patience" else config.search.steps,
        )  # fmt: skip
