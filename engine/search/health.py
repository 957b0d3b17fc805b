"""Warn about a search that goes wrong, or stop it: a class without examples, losses that are not finite, an alpha that
collapsed, ranks that never changed."""

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from configs.errors import UserError
from configs.rules import moves_alpha
from configs.schema import RunConfig
from engine.ranks.rules import SUM_TO_ONE
from engine.search.engine import SearchEngine
from engine.search.trajectory import Trajectory

log = logging.getLogger("autolora")

COLLAPSED = 0.99
"""alpha of a layer has collapsed if one of its components has a larger alpha than this."""


def refuse_many_skips(engine: SearchEngine, config: RunConfig) -> None:
    """Raises UserError if more than `search.max_bad_steps` steps were skipped for a loss or gradient that is not
    finite."""
    skipped = int(engine.skipped_steps())
    if skipped <= config.search.max_bad_steps:
        return
    search = config.search
    loader = engine.lora.train_data_loader[0]
    rates = f"--search.learning_rate is {search.learning_rate:g}: lower it"
    if moves_alpha(config):
        outer = f"--search.selection_learning_rate {search.selection_learning_rate:g}"
        rates = f"--search.learning_rate is {search.learning_rate:g}, {outer}: lower them"
    others = [] if config.precision == "fp32" else ["--precision fp32"]
    others.append(f"more --search.warmup_ratio (now {search.warmup_ratio:g})")
    if not 0 < search.gradient_clipping <= 1:  # 0: gradients are not clipped
        others.append("--search.gradient_clipping 1")
    raise UserError(
        f"--search.max_bad_steps: by step {engine.global_step} (epoch {loader.epoch}, batch {loader.position} of "
        f"D_tr) {skipped} steps had a loss or gradient that is not finite, allowed {search.max_bad_steps}; "
        f"{rates}, or try {', '.join(others)}, with --overwrite"
    )


def warn_about_missing_classes(
    labels: Sequence[object], d_tr: np.ndarray, d_val: np.ndarray, names: Mapping[int, str], seed: str = "--seed"
) -> None:
    """Warns of a class without an example in D_tr or D_val: W or beta then learns nothing about it.

    `labels` are those of all training rows. Only labels that are class numbers, named by `names`, are checked. `seed`:
    the option whose seed draws D_tr and D_val.
    """
    if not names or not isinstance(labels[0], int):
        return
    values = np.asarray(labels)
    for part, rows in ("D_tr", d_tr), ("D_val", d_val):
        missing = np.setdiff1d(values, values[rows])
        if len(missing):
            log.warning(
                "%s has no example of class %s: give more rows, another %s or --task.validation_share",
                part, ", ".join(names[int(number)] for number in missing), seed,
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
        log.warning(
            "alpha moved in %d of %d outer steps%s: in the others a loss or gradient was not finite; lower "
            "--search.learning_rate (now %g) or --search.selection_learning_rate (now %g)%s",
            outer - still, outer, ", so the ranks are still those of the start" if still == outer else "",
            config.search.learning_rate, config.search.selection_learning_rate,
            "" if config.precision == "fp32" else ", or try --precision fp32",
        )  # fmt: skip
    return warns


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
