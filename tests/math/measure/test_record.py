"""The record of ranks comes back from its file as it was written, and a wrong one is refused."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine import ranks
from autolora.engine.measure.evidence import BudgetPoint
from autolora.engine.ranks import check_against
from tests.helpers.evidence import evidence_of, point

# Layer -> (outputs, inputs).
SHAPES = {"encoder.0.query": (8, 6), "encoder.0.value": (8, 8), "encoder.1.query": (4, 8)}


def test_layers_of_rank_0_count_in_the_mean_but_not_in_that_of_the_layers_that_keep_any() -> None:
    """retrain.scale mean_rank follows the latter."""
    record = ranks.RankRecord(
        8, (ranks.LayerRank("a", 0), ranks.LayerRank("b", 2), ranks.LayerRank("c", 5))
    )
    assert (record.mean_rank, record.mean_kept_rank) == (pytest.approx(7 / 3), 3.5)


def test_every_field_of_a_record_is_written_and_read_again(tmp_path: Path) -> None:
    """The names of the fields stood in seven lists; one that misses a list would be lost or
    refused."""
    layer = ranks.LayerRank("a", 1, (0.6,), (1.0,), (2.0,), (0.1,), (0.01,), 0.1, 0.01, 0.2)
    best = dataclasses.replace(point(1, -0.1), parameters=9, reference_kept_standard_error=0.01)
    curves = dict.fromkeys(("plain_curve", "uneven_curve"), (best,)) | {
        "budget_curve": (BudgetPoint(**vars(best)),)
    }
    measured = evidence_of(rank_curve=(best, point(8, 0.0, 0.0)), **curves)
    record = ranks.RankRecord(
        1,
        (layer,),
        "sigmoid",
        "shares",
        0.5,
        40,
        16,
        "a note",
        measured,
        0.1,
        8.0,
        "fixed",
        "org/base",
        "v1",
    )
    for of in (layer, best, measured, record):
        unset = [
            field.name
            for field in dataclasses.fields(of)
            if getattr(of, field.name) == field.default
        ]
        assert unset == [], "the test sets every field to another value than its default"
    ranks.save(record, tmp_path / "ranks.json")
    assert ranks.load(tmp_path / "ranks.json") == record


def test_a_record_written_by_hand_needs_names_and_ranks_only(tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    path.write_text(
        '{"layers": [{"name": "encoder.0.query", "rank": 3}, {"name": "encoder.0.value", '
        '"rank": 0}]}'
    )
    record = ranks.load(path)
    assert record.k == 3
    assert record.kept == {"encoder.0.query": 3}
    assert record.rule == "by hand"
    check_against(record, SHAPES, path)


def test_a_record_of_a_version_that_measured_on_two_folds_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    whole = ranks.RankRecord(8, (ranks.LayerRank("a", 2),), evidence=evidence_of())
    ranks.save(whole, path)
    lacking = ("plain_curve", "uneven_curve")
    old = {key: value for key, value in json.loads(path.read_text()).items() if key not in lacking}
    path.write_text(json.dumps(old | {"allowed_gap": 0.02}))
    found: Any = ranks.load(path)
    assert found.ranks == whole.ranks
    assert (found.evidence.gain, found.evidence.plain_curve) == (evidence_of().gain, ())


def test_of_a_record_of_0_2_0_the_ranks_are_read(tmp_path: Path) -> None:
    """Its evidence was measured otherwise, and lacks what today's has."""
    layer = ranks.LayerRank("a", 1)
    path = tmp_path / "ranks.json"
    ranks.save(ranks.RankRecord(4, (layer,), evidence=evidence_of()), path)
    content = json.loads(path.read_text())
    for name in ("sources", "head_share", "fall"):
        del content[name]
    path.write_text(json.dumps(content | {"switch_off": 0.1}))
    record = ranks.load(path)
    assert record.kept == {"a": 1}
    assert record.evidence is None


def layers(*pairs: tuple[Any, Any]) -> str:
    return json.dumps({"layers": [{"name": name, "rank": rank} for name, rank in pairs]})


BAD = {
    "twice": (layers(("encoder.0.query", 2), ("encoder.0.query", 3)), "given twice"),
    "zero k": ('{"k": 0, "layers": [{"name": "encoder.0.query", "rank": 1}]}', "k: "),
    "unknown": (
        layers(("encoder.0.qeury", 2)),
        "no layer 'encoder.0.qeury'; the nearest is 'encoder.0.query'",
    ),
    "too large": (
        layers(("encoder.1.query", 5)),
        "rank 5 of 'encoder.1.query' is out of range; allowed: 0 to 4",
    ),
    "all zero": (layers(("encoder.0.query", 0)), "every rank is 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_is_one_line_that_names_file_and_entry(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    path = tmp_path / "ranks.json"
    path.write_text(content)
    with pytest.raises(UserError, match=f"^{re.escape(str(path))}: .*{message}"):
        check_against(ranks.load(path), SHAPES, path)
