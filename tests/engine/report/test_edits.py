"""Ranks edited in ranks.json are told from those that the rule chose."""

from pathlib import Path

import pytest

from autolora.engine.disk.files import write_json
from autolora.engine.export.names import ADAPTER_CONFIG
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.report.edits import edit_words, edited_from
from autolora.engine.run.folder import RunFolder
from tests.helpers.finished import RESULT

pytestmark = pytest.mark.unit


def record(**ranks: int) -> RankRecord:
    return RankRecord(8, tuple(LayerRank(f"b.{name[1:]}.query", rank) for name, rank in ranks.items()))


def chosen(tmp_path: Path, **ranks: int) -> RunFolder:
    folder = RunFolder(tmp_path)
    write_json(folder.answer, {"ranks": {f"b.{name[1:]}.query": rank for name, rank in ranks.items()}})
    return folder


def test_the_ranks_that_the_rule_chose_are_not_edited(tmp_path: Path) -> None:
    folder = chosen(tmp_path, l0=2, l1=0)
    assert edited_from(record(l0=2, l1=0), folder) == {}
    assert edit_words(record(l0=2, l1=0), folder) == ""


def test_each_other_rank_is_told_with_what_it_was(tmp_path: Path) -> None:
    folder = chosen(tmp_path, l0=2, l1=0, l2=1, l3=0)
    found = record(l0=3, l1=0, l4=5)  # 2 and 3 left out, 4 added
    assert edited_from(found, folder) == {"b.0.query": 2, "b.4.query": 0, "b.2.query": 1}
    assert (
        edit_words(found, folder)
        == "3 ranks were edited by hand: 0 query 3 (was 2), 4 query 5 (was 0), 2 query 0 (was 1)"
    )


def test_many_are_counted(tmp_path: Path) -> None:
    folder = chosen(tmp_path, **{f"l{i}": 1 for i in range(9)})
    assert edit_words(record(**{f"l{i}": 2 for i in range(9)}), folder).endswith(" and 4 more")
    assert edit_words(record(l0=2, **{f"l{i}": 1 for i in range(1, 9)}), folder).startswith("1 rank was edited")


def test_without_a_search_nothing_is_edited(tmp_path: Path) -> None:
    assert edit_words(record(l0=2), RunFolder(tmp_path)) == ""


def test_a_result_of_other_ranks_is_told(tmp_path: Path) -> None:
    folder, edited = chosen(tmp_path, l0=2), record(l0=3)
    write_json(folder.metrics, RESULT)
    assert edit_words(edited, folder) == "1 rank was edited by hand: 0 query 3 (was 2)", "no adapter was written"
    write_json(folder.adapter / ADAPTER_CONFIG, {"rank_pattern": {"b.0.query": 2}})
    assert edit_words(record(l0=2), folder) == ""
    assert "; the adapter and the result have other ranks: --stage retrain" in edit_words(edited, folder)
    write_json(folder.adapter / ADAPTER_CONFIG, {"rank_pattern": {"b.0.query": 3}})
    assert edit_words(edited, folder) == "1 rank was edited by hand: 0 query 3 (was 2)"
