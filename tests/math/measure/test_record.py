"""alpha becomes ranks, and their record comes back from its file as it was written."""

import dataclasses
from pathlib import Path

import pytest
import torch

from autolora.engine import ranks
from autolora.engine.ranks import count_parameters
from autolora.engine.ranks.record import chosen_components
from tests.helpers.evidence import evidence_of, point
from tests.helpers.rank_records import SHAPES, record_by_threshold

SIZES = {name: sum(shape) for name, shape in SHAPES.items()}


def searched_record() -> ranks.RankRecord:
    alpha = torch.tensor([[0.7, 0.1, 0.1, 0.1], [0.25, 0.25, 0.25, 0.25], [0.3, 0.3, 0.3, 0.1]])
    record = record_by_threshold(list(SIZES), alpha)
    return dataclasses.replace(record, lora_parameters=count_parameters(record.kept, SIZES))


def test_a_record_counts_ranks_and_parameters() -> None:
    record = searched_record()
    assert [layer.rank for layer in record.layers] == [1, 4, 3]
    assert record.mean_rank == pytest.approx(8 / 3)
    assert record.lora_parameters == 1 * 14 + 4 * 16 + 3 * 12
    assert record.kept == {"encoder.0.query": 1, "encoder.0.value": 4, "encoder.1.query": 3}


def test_layers_of_rank_0_count_in_the_mean_but_not_in_that_of_the_layers_that_keep_any() -> None:
    """retrain.scale mean_rank follows the latter."""
    record = ranks.RankRecord(8, (ranks.LayerRank("a", 0), ranks.LayerRank("b", 2), ranks.LayerRank("c", 5)))
    assert (record.mean_rank, record.mean_kept_rank) == (pytest.approx(7 / 3), 3.5)
    assert not record.all_equal
    assert ranks.RankRecord(8, (ranks.LayerRank("a", 2), ranks.LayerRank("b", 2))).all_equal
    assert ranks.counted(record, {"a": 10, "b": 10, "c": 100}).lora_parameters == 520


def test_every_field_of_a_record_is_written_and_read_again(tmp_path: Path) -> None:
    """The names of the fields stood in seven lists; one that misses a list would be lost or refused."""
    layer = ranks.LayerRank("a", 1, (0.6,), (1.0,), (2.0,), (0.1,), (0.01,), 0.1, 0.01, 0.2, True)
    best = dataclasses.replace(point(1, -0.1), parameters=9, reference_kept_standard_error=0.01)
    curves = dict.fromkeys(("budget_curve", "plain_curve", "uneven_curve"), (best,))
    measured = evidence_of(rank_curve=(best, point(8, 0.0, 0.0)), **curves, allowed_gap=0.03, regression=True, folds=5)
    record = ranks.RankRecord(
        1, (layer,), "sigmoid", "shares", 0.5, 40, 16, "a note", measured, 0.1, 8.0, "fixed", "org/base", "v1"
    )
    for of in (layer, best, measured, record):
        unset = [field.name for field in dataclasses.fields(of) if getattr(of, field.name) == field.default]
        assert unset == [], "the test sets every field to another value than its default"
    ranks.save(record, tmp_path / "ranks.json")
    assert ranks.load(tmp_path / "ranks.json") == record


def test_components_whose_share_does_not_exceed_its_error_are_taken_from_the_first_on() -> None:
    layer = ranks.LayerRank(
        "a", 2, singular_values=(3.0, 2.0, 1.0), share=(-0.2, 0.1, 0.2), share_standard_error=(0.1, 0.1, 0.01)
    )
    record = ranks.RankRecord(3, (layer,), rule="shares")
    assert chosen_components(layer, record) == [0, 2], "the second share is no larger than its error"
    sure = dataclasses.replace(layer, share_standard_error=(0.1, 0.09, 0.01))
    assert chosen_components(sure, record) == [1, 2]
    assert chosen_components(layer, dataclasses.replace(record, rule="size")) == [0, 1]
    assert chosen_components(ranks.LayerRank("a", 2), record) == [0, 1], "a layer without shares"
    assert chosen_components(dataclasses.replace(layer, rank=3), record) == [0, 1, 2], "all of them"
