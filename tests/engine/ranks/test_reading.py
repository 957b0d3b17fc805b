"""ranks.json is read, also one written by hand; a wrong one is refused in one line that names file and entry."""

import json
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine import ranks
from autolora.engine.ranks import check_against
from tests.helpers.rank_records import SHAPES


def test_a_record_written_by_hand_needs_names_and_ranks_only(tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    path.write_text('{"layers": [{"name": "encoder.0.query", "rank": 3}, {"name": "encoder.0.value", "rank": 0}]}')
    record = ranks.load(path)
    assert record.k == 3
    assert record.kept == {"encoder.0.query": 3}
    assert record.rule == "by hand"
    check_against(record, SHAPES, path)


def layers(*pairs: tuple[Any, Any]) -> str:
    return json.dumps({"layers": [{"name": name, "rank": rank} for name, rank in pairs]})


BAD = {
    "not JSON": ("{layers: ", "not readable as JSON"),
    "not an object": ("[]", "needs an object with layers"),
    "no layers": ('{"k": 4}', "layers: Field required"),
    "twice": (layers(("encoder.0.query", 2), ("encoder.0.query", 3)), "given twice"),
    "negative": (layers(("encoder.0.query", -1)), r"layers\.0\.rank: .*, holds -1"),
    "float": (layers(("encoder.0.query", 2.0)), r"layers\.0\.rank: .*, holds 2\.0"),
    "zero k": ('{"k": 0, "layers": [{"name": "encoder.0.query", "rank": 1}]}', "k: .*, holds 0"),
    "unknown": (layers(("encoder.0.qeury", 2)), "no layer 'encoder.0.qeury'; the nearest is 'encoder.0.query'"),
    "too large": (layers(("encoder.1.query", 5)), "rank 5 of 'encoder.1.query' is out of range; allowed: 0 to 4"),
    "NaN in alpha": ('{"layers": [{"name": "a", "rank": 1, "alpha": [NaN]}]}', r"layers\.0\.alpha\.0: "),
    "field misspelt": ('{"K": 8, "layers": [{"name": "encoder.0.query", "rank": 1}]}', "K: .*, holds 8"),
    "all zero": (layers(("encoder.0.query", 0)), "every rank is 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_is_one_line_that_names_file_and_entry(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    path = tmp_path / "ranks.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        check_against(ranks.load(path), SHAPES, path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
