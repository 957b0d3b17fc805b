"""Check whether a verdict can use what earlier commands made: a search's ranks, and an earlier verdict's pairs.

The messages name the keys that the user gives, such as verdict.rows, not the keys of the trainings (task.unused_rows)
that the program derives from them.
"""

import logging
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.retrain import checkpoint
from autolora.engine.retrain.components import data_seed_in
from autolora.engine.retrain.same_ranks import what_counts
from autolora.engine.retrain.settings import FINISHED, RETRAINING
from autolora.engine.run.contents import data_of_ranks, read_choice, read_fingerprint, read_plan, read_result
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.resuming import Outdated, Settings
from autolora.engine.run.same_data import data_change
from autolora.engine.study.cells import Cell
from autolora.engine.verdict.arms import Arms, rate_of
from autolora.engine.verdict.folder import VerdictFolder

log = logging.getLogger("autolora")

_GIVEN_AS = {"task.unused_rows": "verdict.rows", "lora.shuffle": "verdict.shuffle"}
"""Key of a training -> the key of the verdict that it follows from."""
_FROM_RANKS = ("lora.ranks_from", "lora.k", "lora.r")
"""Keys of a training that are not compared here: they follow from the ranks, which `refuse_other_ranks` compares, or
from the run's folder, which may be moved."""
_AGAIN = "--overwrite trains every pair again"

ROWS = Settings((
    "task.type", "task.path", "task.revision", "task.glue", "task.benchmark", "task.configuration",
    "task.validation_path", "task.test_path",
    "task.holdout_share", "task.train_rows", "task.evaluation_split",
))  # fmt: skip
"""The keys that decide, with the seed of the data, which rows are D_tr and D_val, and which others judge the pairs."""
MODEL = Settings(("model.name", "model.revision", "lora.target_modules"))
"""The keys of the model and the layers whose ranks are judged."""
_OF_PAIRS = ("retrain.learning_rate", "retrain.row_losses")
"""Keys of the retraining that a verdict sets itself."""
_MAKES_RANKS = Settings(("answer", "search", "hypergradient", "lora.k"))
"""The keys that make ranks. A verdict reads them only if the run has no ranks yet."""


def refuse_other_rows(config: RunConfig, folder: RunFolder) -> None:
    """Raises Outdated if the ranks were found on other rows: some of these could now be among the rows that judge."""
    if not folder.ranks.exists():
        return
    recorded: dict[str, Any] = read_choice(folder).get("settings", {})
    what = f"the ranks in {folder.ranks} were chosen with"
    needed = "the verdict needs rows on which the ranks were not chosen"
    way_out = f"{needed}; give the old value, or --name for a run with other rows"
    ROWS.refuse_changed(recorded, config, what, way_out)
    now, then = config.data_seed, data_seed_in(recorded)
    if then not in (None, now):
        key = "seed" if config.task.seed is None else "task.seed"
        raise Outdated(
            f"--{key}: {what} the rows of seed {then}, now it is {now}; {way_out}, or --task.seed {then} to keep "
            f"the old rows and change only the seeds of the trainings"
        )


def refuse_other_model(config: RunConfig, folder: RunFolder) -> None:
    """Raises Outdated if the ranks were found for another model or for other layers than those of `config`."""
    recorded = read_choice(folder).get("settings", {}) if folder.ranks.exists() else {}
    what = f"the ranks in {folder.ranks} were found with"
    MODEL.refuse_changed(recorded, config, what, "give the old value, or --name for a run with other ranks")


def refuse_without_components(config: RunConfig, folder: RunFolder) -> None:
    """Raises UserError if the trainings would start from components that this run never searched."""
    if config.retrain.start == "search" and not (folder.search_weights.exists() and folder.search_summary.exists()):
        raise UserError(
            f"--retrain.init: 'search' needs {folder.search_weights}, which is not there, as no search of this run "
            f"chose {folder.ranks}; give --retrain.init scratch"
        )


def tell_ignored(request: Request, folder: RunFolder) -> None:
    """Warns of settings on the command line that would have made other ranks than those that the run has."""
    if not (folder.ranks.exists() and folder.config.exists()):
        return
    ran, asked = (_MAKES_RANKS.of(config) for config in (load_config(folder.config), request.config))
    other = [f"--{key}" for key in sorted(request.given) if key in ran and ran[key] != asked[key]]
    if other:
        of_answer = all(key.startswith("--answer.") for key in other)
        log.warning(
            "--stage verdict does not read %s, as the verdict is about the ranks in %s; for other ranks give %s",
            ", ".join(other), folder.ranks, f"--name and --answer.from {folder.root}" if of_answer else "--name",
        )  # fmt: skip


def tell_other_retraining(config: RunConfig, folder: RunFolder) -> None:
    """Warns of settings of the retraining by which the run's own adapter was trained otherwise than the pairs are: the
    verdict is about trainings by these settings."""
    result, now = read_result(folder.metrics), RETRAINING.of(config)
    if not result:
        return
    trained, rate = result["settings"], rate_of(config, folder)
    other = [
        f"--{key} (now {now[key]}, then {trained[key]})"
        for key in sorted(now)
        if key.startswith("retrain.") and key not in _OF_PAIRS and key in trained and trained[key] != now[key]
    ]
    if result.get("learning_rate") not in (None, rate):
        other.append(f"--retrain.learning_rate (now {rate:g}, then {result['learning_rate']:g})")
    if other:
        log.warning(
            "the pairs are trained by other settings than the adapter in %s was, and the verdict is about these: %s",
            folder.root, ", ".join(other),
        )  # fmt: skip


def refuse_other_ranks(arms: Arms, run_ranks: object) -> None:
    """Raises UserError if earlier pairs were trained at other ranks than those of `arms`, read from `run_ranks`, or if
    the record of their ranks or of their plan is missing."""
    place, now = arms.folder, what_counts(arms.record)
    for path in (place.ranks, place.plan):
        if place.cells.exists() and not path.exists():
            raise UserError(f"{path}: is missing beside the pairs in {place.cells}; {_AGAIN}")
    if place.ranks.exists() and what_counts(ranks.load(place.ranks)) != now:
        raise UserError(
            f"{run_ranks}: these are not the ranks that the pairs in {place.root} were trained at; {_AGAIN}"
        )
    for cell in _every(arms):
        then = read_result(cell.folder.metrics).get("source_ranks")
        if then is not None and then != now:
            raise UserError(f"{cell.folder.root}: was trained at other ranks than {place.ranks} holds; {_AGAIN}")


def refuse_other_plan(arms: Arms) -> None:
    """Raises Outdated if another number of pairs was planned before the first one: who plans anew after seeing pairs
    finds differences that are not there."""
    place, asked = arms.folder, arms.config.verdict.pairs
    planned = read_plan(place.plan) if place.plan.exists() else asked
    if planned != asked:
        raise Outdated(
            f"--verdict.pairs: the pairs in {place.root} were planned as {planned} at most, now it is {asked}; give "
            f"the old value, or --overwrite to train every pair again"
        )


def refuse_other_settings(arms: Arms) -> None:
    """Raises Outdated when earlier pairs were trained under other settings; also when an unfinished training was."""
    for cell in _every(arms):
        if cell.folder.metrics.exists():
            compared, recorded = FINISHED, dict(read_result(cell.folder.metrics)["settings"])
        else:
            compared, recorded = RETRAINING, dict(checkpoint.peek(cell.folder.retrain).get("settings", {}))
        for key in _FROM_RANKS:
            recorded.pop(key, None)
        _refuse_other_seed(cell, recorded.pop("seed", None), arms.config.seed)
        compared.refuse_changed(
            recorded, cell.config, f"the pairs in {arms.folder.root} were trained with",
            "give the old value, or --overwrite to train every pair again", _GIVEN_AS,
        )  # fmt: skip


def _refuse_other_seed(cell: Cell, trained: object, seed: int) -> None:
    """Raises Outdated if a pair was trained at another seed than the one that now follows from the run's seed."""
    if trained not in (None, cell.config.seed):
        raise Outdated(
            f"--seed: {cell.folder.root} was trained at the seed {trained}, and a verdict at --seed {seed} trains "
            f"pair {cell.values['pair']} at the seed {cell.config.seed}; give the --seed with which the verdict "
            f"began, or --overwrite to train every pair again"
        )


def refuse_data_after_search(run: Context, folder: RunFolder) -> None:
    """Raises Outdated, naming the file, if its rows are no longer those on which the ranks were chosen.

    `run`: a training of the verdict; `folder`: the run that is judged."""
    change = data_change(run, data_of_ranks(folder), f"the ranks in {folder.ranks} were chosen on", evaluated=False)
    if change:
        raise Outdated(
            f"{change}; the verdict needs rows on which the ranks were not chosen; bring the old data back, or --name "
            f"for a run with other rows"
        )


def refuse_data_after_pairs(run: Context, place: VerdictFolder) -> None:
    """Raises Outdated, naming the file, if its rows are no longer those that earlier pairs were trained and judged on.
    Before the first pair, records the rows instead."""
    if not place.data.exists():
        write_json(place.data, run.fingerprint)
        return
    begun = read_fingerprint(place.data)
    change = data_change(run, begun, f"the pairs in {place.root} were trained on", evaluated=True)
    if change:
        raise Outdated(f"{change}; bring the old data back, or --overwrite to train every pair again")


def _every(arms: Arms) -> list[Cell]:
    """All trainings of the verdict."""
    return [*(cell for number in range(1, arms.plan.most + 1) for cell in arms.pair(number).values()), *arms.heads()]
