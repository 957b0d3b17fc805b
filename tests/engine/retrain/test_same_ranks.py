"""Work that began with other ranks does not resume; what changes no model may change."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine.disk.files import write_json
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.retrain import checkpoint
from autolora.engine.retrain.same_ranks import refuse_changed_ranks, what_counts
from autolora.engine.run.folder import RunFolder

RECORD = RankRecord(4, (LayerRank("a", 2), LayerRank("b", 0), LayerRank("c", 3)))


def with_ranks(k: int = 4, **ranks: int) -> RankRecord:
    return RankRecord(k, tuple(LayerRank(name, rank) for name, rank in ranks.items()))


def retrained(folder: RunFolder) -> None:
    place = checkpoint.place(folder.retrain, 2)
    place.mkdir(parents=True)
    checkpoint.seal(place, 1.0, {"ranks": what_counts(RECORD)})


def sweeping(folder: RunFolder) -> None:
    write_json(folder.sweep, {"trials": [], "ranks": what_counts(RECORD)})


def swept(folder: RunFolder) -> None:
    write_json(folder.sweep, {"chosen": {}, "trials": [], "ranks": what_counts(RECORD)})


@pytest.mark.parametrize(
    ("work", "words"),
    [
        (retrained, "the half-done retraining in "),
        (sweeping, "the half-done sweep of learning rates in "),
        (swept, "the sweep of learning rates in "),
    ],
)
@pytest.mark.parametrize(
    ("now", "change"),
    [
        (with_ranks(a=4, b=0, c=3), r"a \(2 then, 4 now\)"),
        (with_ranks(a=2, c=3, d=1), r"d \(0 then, 1 now\)"),
        (with_ranks(a=2, b=0), r"c \(3 then, 0 now\)"),
        (with_ranks(8, a=2, b=0, c=3), r"k \(4 then, 8 now\)"),
    ],
)
def test_the_layer_is_named_with_both_ranks(
    tmp_path: Path, work: Any, words: str, now: RankRecord, change: str
) -> None:
    folder = RunFolder(tmp_path)
    work(folder)
    message = (
        rf"^{folder.ranks}: these are not the ranks that {words}.* began with: {change}; bring the old ranks back"
    )
    with pytest.raises(UserError, match=message):
        refuse_changed_ranks(now, folder.ranks, folder)


@pytest.mark.parametrize(
    "now",
    [
        RECORD,
        with_ranks(c=3, a=2),
        dataclasses.replace(RECORD, note="mine", rule="by hand", lora_parameters=7),
    ],
    ids=["the same", "without the zero, in another order", "with other words"],
)
def test_the_same_model_may_be_trained_on(tmp_path: Path, now: RankRecord) -> None:
    folder = RunFolder(tmp_path)
    retrained(folder)
    swept(folder)
    refuse_changed_ranks(now, folder.ranks, folder)


def test_where_nothing_is_half_done_every_rank_may_be_trained(tmp_path: Path) -> None:
    refuse_changed_ranks(RECORD, Path("x"), RunFolder(tmp_path))
    assert what_counts(None) is None
