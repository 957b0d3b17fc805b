"""Check whether a verdict can use what earlier commands made: a search's ranks, and an earlier verdict's pairs.

The messages name the keys that the user gives, such as verdict.rows, not the keys of the trainings (task.unused_rows)
that the program derives from them.
"""

from typing import Any

from autolora.configs.errors import UserError
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
from autolora.engine.verdict.arms import Arms
from autolora.engine.verdict.losses import AGAIN

_GIVEN_AS = {"task.unused_rows": "verdict.rows", "lora.shuffle": "verdict.shuffle"}
"""Key of a training -> the key of the verdict that it follows from."""
_FROM_RANKS = ("lora.ranks_from", "lora.k", "lora.r", "seed")
"""Keys of a training that are not compared here: they follow from the ranks and from the run's seed, which are
compared, or from the run's folder, which may be moved."""

ROWS = Settings((
    "task.type", "task.path", "task.data_files", "task.train_split", "task.revision", "task.glue", "task.format",
    "task.configuration", "task.validation_path", "task.test_path",
    "task.holdout_share", "task.train_rows", "task.evaluation_split",
    "model.name", "model.revision", "lora.target_modules",
))  # fmt: skip
"""The keys that decide, with the seed of the data, which rows are D_tr and D_val, and which others judge the pairs;
and those of the model and the layers whose ranks are judged."""


def refuse_other_search(config: RunConfig, folder: RunFolder) -> None:
    """Raises Outdated if the run's ranks were found on other rows, some of which could now be among the rows that
    judge, or for another model or other layers; UserError if the trainings would start from components that it lacks.
    """
    if not folder.ranks.exists():
        return
    recorded: dict[str, Any] = read_choice(folder).get("settings", {})
    what = f"the ranks in {folder.ranks} were found with"
    ROWS.refuse_changed(recorded, config, what, "give the old value, or --name for a run with other ranks")
    now, then = config.data_seed, data_seed_in(recorded)
    if then not in (None, now):
        key = "seed" if config.task.seed is None else "task.seed"
        raise Outdated(f"--{key}: {what} the rows of seed {then}, now it is {now}; give the old value, or --task.seed "
                       f"{then} to change only the seeds of the trainings")  # fmt: skip
    if config.retrain.start == "search" and not (folder.search_weights.exists() and folder.search_summary.exists()):
        raise UserError(f"--retrain.init: 'search' needs {folder.search_weights}, which is not there; give scratch")


def refuse_other_pairs(arms: Arms) -> None:
    """Raises Outdated if earlier pairs were trained at other ranks or under other settings, or if another number of
    pairs was planned before the first one: who plans anew after seeing pairs finds differences that are not there."""
    place, asked, now = arms.folder, arms.config.verdict.pairs, what_counts(arms.record)
    for path in (place.ranks, place.plan):
        if place.cells.exists() and not path.exists():
            raise Outdated(f"{path}: is missing beside the pairs in {place.cells}; {AGAIN}")
    if place.ranks.exists() and what_counts(ranks.load(place.ranks)) != now:
        raise Outdated(f"{place.root}: its pairs were trained at other ranks than the run has now; {AGAIN}")
    if place.plan.exists() and (planned := read_plan(place.plan)) != asked:
        raise Outdated(f"--verdict.pairs: the pairs in {place.root} were planned as {planned} at most, now it is "
                       f"{asked}; give the old value, or {AGAIN}")  # fmt: skip
    for cell in arms.every():
        compared, made = (FINISHED, read_result(cell.folder.metrics)) if cell.finished else (
            RETRAINING, checkpoint.peek(cell.folder.retrain)
        )  # fmt: skip
        recorded = dict(made.get("settings", {}))
        if recorded.get("seed") not in (None, cell.config.seed):
            raise Outdated(f"--seed: the pairs in {place.root} were trained with another seed; give it, or {AGAIN}")
        if made.get("source_ranks") not in (None, now):
            raise Outdated(f"{cell.folder.root}: was trained at other ranks than {place.ranks} holds; {AGAIN}")
        recorded = {key: value for key, value in recorded.items() if key not in _FROM_RANKS}
        what = f"the pairs in {place.root} were trained with"
        compared.refuse_changed(recorded, cell.config, what, f"give the old value, or {AGAIN}", _GIVEN_AS)


def refuse_other_data(run: Context, arms: Arms) -> None:
    """Raises Outdated, naming the file, if its rows are no longer those on which the ranks were chosen, or those of
    earlier pairs. Before the first pair, records the rows. `run`: a training of the verdict."""
    place, folder = arms.folder, RunFolder(arms.folder.root.parent)
    searched = data_change(run, data_of_ranks(folder), f"the ranks in {folder.ranks} were chosen on", evaluated=False)
    if searched:
        raise Outdated(f"{searched}; bring the old data back, or --name for a run with other rows")
    if not place.data.exists():
        write_json(place.data, run.fingerprint)
        return
    begun = read_fingerprint(place.data)
    change = data_change(run, begun, f"the pairs in {place.root} were trained on", evaluated=True)
    if change:
        raise Outdated(f"{change}; bring the old data back, or {AGAIN}")
