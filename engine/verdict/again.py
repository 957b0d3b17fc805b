"""May pairs that an earlier command trained be kept? Asked in the words of the verdict, not of its trainings."""

import dataclasses

from configs.errors import UserError
from engine import ranks
from engine.ranks import RankRecord
from engine.retrain.same_ranks import what_counts
from engine.retrain.settings import FINISHED
from engine.run.contents import read_result
from engine.study.cells import Cell
from engine.verdict.arms import Arms
from engine.verdict.folder import VerdictFolder
from engine.verdict.judge import LOOKS

_GIVEN_AS = {"task.unused_rows": "verdict.rows", "lora.shuffle": "verdict.shuffle"}
"""Keys of a training that follow from a key of the verdict."""
_FROM_RANKS = ("lora.ranks_from", "lora.k", "lora.r")
"""Keys of a training that follow from the ranks and from where the run lies, which may be moved."""


def refuse_other_ranks(place: VerdictFolder, record: RankRecord, run_ranks: object) -> None:
    """Raises UserError when earlier pairs were trained at other ranks than `record`, which lie in `run_ranks`."""
    if place.ranks.exists() and what_counts(ranks.load(place.ranks)) != what_counts(record):
        raise UserError(
            f"{run_ranks}: these are not the ranks that the pairs in {place.root} were trained at; --overwrite "
            f"trains every pair again"
        )


def refuse_other_settings(arms: Arms) -> None:
    """Raises Outdated when earlier pairs were trained under other settings."""
    for cell in _finished(arms):
        recorded = dict(read_result(cell.folder.metrics).get("settings", {}))
        for key in _FROM_RANKS:
            recorded.pop(key, None)
        # A pair's own seed is the run's and its number.
        if isinstance(recorded.get("seed"), int):
            recorded["seed"] = (recorded["seed"] - cell.values["pair"]) % 2**31
        asked = dataclasses.replace(cell.config, seed=arms.config.seed % 2**31)
        FINISHED.refuse_changed(
            recorded, asked, f"the pairs in {arms.folder.root} were trained with",
            "give the old value, or --overwrite to train every pair again", _GIVEN_AS,
        )  # fmt: skip


def _finished(arms: Arms) -> list[Cell]:
    every = [cell for number in range(1, LOOKS[-1] + 1) for cell in arms.pair(number).values()]
    return [cell for cell in (*every, *arms.heads()) if cell.folder.metrics.exists()]
