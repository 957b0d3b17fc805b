"""Tells the user which given keys nothing reads: refuses some of them, and warns of the others."""

import logging
from collections.abc import Iterator, Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.facts import read_by_comparison
from autolora.configs.requests import Given
from autolora.configs.schema import RunConfig, Stage
from autolora.configs.unread import Row, reason

log = logging.getLogger("autolora")

# What one stage, run alone, leaves unread, though another stage reads it. Stage search is not here, as config.yaml
# keeps the settings of the retraining for a later --stage retrain.
_ALONE: dict[Stage, Row] = {
    "retrain": Row(
        ("search", "hypergradient", "answer", "lora.k", "lora.target_modules"), lambda c: c.method == "autolora",
        "with --stage retrain, which takes the ranks that the run has, with their layers and k",
    ),
    "verdict": Row(
        ("retrain.row_losses", "export", "task.samples", "decode"), lambda c: True,
        "with --stage verdict, whose trainings leave no model and always keep each row's loss",
    ),
}  # fmt: skip


def tell_unread(given: Given, config: RunConfig, runs: Sequence[RunConfig], stage: Stage = "all") -> None:
    """Reports each key that the user gave and that no run of `config` reads; the runs of a study are its cells.

    Only the stage verdict reads the section verdict, and it starts its trainings with the keys under study.launcher
    and study.ray. A file may serve several stages, so what the chosen stage alone leaves unread is reported only if it
    is given on the command line.

    Raises UserError for a key that is refused; warns of the others, in one line for each reason.
    """
    said: dict[tuple[str, str], list[str]] = {}
    for key, where, on_axis in _asked(given, config):
        if key.startswith("verdict.") and (stage == "verdict" or where):
            continue
        if stage == "verdict" and key.startswith(("study.launcher", "study.ray.")):
            continue
        readers = [*runs, config] if read_by_comparison(key, config) and not on_axis else runs
        rows = [_unread(key, run, None if where or on_axis else stage) for run in readers]
        if not rows or rows[0] is None or None in rows:
            continue
        why = rows[0].why.format(c=runs[0])
        if on_axis or (rows[0].instead and not where):
            raise UserError(f"{where}--{key}: does nothing {why}; {rows[0].instead or 'leave it out'}")
        said.setdefault((where, why), []).append(f"--{key}")
    for (where, why), keys in said.items():
        log.warning("%s%s: %s nothing %s", where, ", ".join(keys), "do" if len(keys) > 1 else "does", why)


def _unread(key: str, run: RunConfig, stage: Stage | None) -> Row | None:
    """The row that says why nothing reads the key; `stage`: the chosen one, if it counts."""
    alone = _ALONE.get(stage) if stage else None
    return reason(key, run) or (alone if alone and alone.covers(key) and alone.unread(run) else None)


def _asked(given: Given, config: RunConfig) -> Iterator[tuple[str, str, bool]]:
    """Every key that the user gave a value, the place where it was given, and whether it is an axis of a study.

    The caller refuses an axis that nothing reads: its values would make several equal runs.
    """
    study = config.study
    inside = {
        "study.axes": list(study.axes),
        "study.variants": [key for settings in study.variants.values() for key in settings],
        "study.where": [key for places in study.where.values() for more in places.values() for key in more],
    }
    for key in dict.fromkeys((*sorted(given.command), *given.files)):
        where = given.where(key) or ""
        if reduce(getattr, key.split("."), config) is None:  # null is the same as leaving the key out
            continue
        in_every_variant = bool(study.variants) and all(key in settings for settings in study.variants.values())
        if not where and (key in study.axes or in_every_variant):
            place = "study.axes" if key in study.axes else "study.variants"
            if not read_by_comparison(key, config):
                raise UserError(f"--{key}: does nothing beside {place}, which has values of {key}; change them there")
            log.info("--%s: holds for the comparison of hypergradients alone; %s gives the cells' values", key, place)
        yield key, where, False
        for other in dict.fromkeys(inside.get(key, ())):
            yield other, where, key == "study.axes"


def tell_unread_by_report(given: Given, asked: RunConfig, ran: RunConfig, path: Path) -> None:
    """Warns of keys on the command line that a report ignores: it uses the configuration of the run, `path`."""

    def value(config: RunConfig, key: str) -> Any:
        return reduce(getattr, key.split("."), config)

    other = [f"--{key}" for key in sorted(given.command) if value(asked, key) != value(ran, key)]
    if other:
        log.warning("--stage report does not read %s: it takes these settings from %s", ", ".join(other), path)
