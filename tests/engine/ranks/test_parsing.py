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


def test_a_damaged_record_names_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    with pytest.raises(UserError, match=r"No such file or directory: '.*'\)$"):
        ranks.load(path)
    path.write_text('{"layers": [{"name": "enc')
    way_out = (
        r"remove the file, and the run's command with --stage search writes it again \(one written by hand: mend it"
    )
    with pytest.raises(UserError, match=way_out):
        ranks.load(path)


def layers(*pairs: tuple[Any, Any]) -> str:
    return json.dumps({"layers": [{"name": name, "rank": rank} for name, rank in pairs]})


BAD = {
    "missing file": (None, "not readable as JSON"),
    "not JSON": ("{layers: ", "not readable as JSON"),
    "not text": (b"\xff\xfe{}", "not readable as JSON"),
    "not an object": ("[]", 'needs an object with a non-empty list "layers"'),
    "no layers": ('{"k": 4}', 'needs an object with a non-empty list "layers"'),
    "layers of a number": ('{"layers": 3}', 'needs an object with a non-empty list "layers"'),
    "empty layers": ('{"layers": []}', 'needs an object with a non-empty list "layers"'),
    "layer is no object": ('{"layers": ["encoder.0.query"]}', r"layers\[0\]: needs an object"),
    "layer without name": ('{"layers": [{"rank": 2}]}', r"layers\[0\]: needs an object"),
    "twice": (layers(("encoder.0.query", 2), ("encoder.0.query", 3)), "layer 'encoder.0.query' is given twice"),
    "negative": (layers(("encoder.0.query", -1)), r"layers\[0\] \(encoder.0.query\): rank is -1; allowed: a whole"),
    "float": (layers(("encoder.0.query", 2.0)), "rank is 2.0"),
    "bool": (layers(("encoder.0.query", True)), "rank is True"),
    "text": (layers(("encoder.0.query", "2")), "rank is '2'"),
    "missing rank": ('{"layers": [{"name": "encoder.0.query"}]}', "rank is None"),
    "bad alpha": ('{"layers": [{"name": "a", "rank": 1, "alpha": "x"}]}', "alpha must be a list of numbers"),
    "bad k": ('{"k": 2.5, "layers": [{"name": "encoder.0.query", "rank": 1}]}', "k is 2.5; allowed: a whole number"),
    "zero k": ('{"k": 0, "layers": [{"name": "encoder.0.query", "rank": 1}]}', "k is 0; allowed: a whole number"),
    "unknown": (layers(("encoder.0.qeury", 2)), "no layer 'encoder.0.qeury'; the nearest is 'encoder.0.query'"),
    "too large": (layers(("encoder.1.query", 5)), "rank 5 of 'encoder.1.query' is out of range; allowed: 0 to 4"),
    "NaN in alpha": ('{"layers": [{"name": "a", "rank": 1, "alpha": [NaN]}]}', "alpha must be a list of numbers"),
    "a number beyond every float": (
        '{"layers": [{"name": "a", "rank": 1, "alpha": [1%s]}]}' % ("0" * 400),
        "alpha must be",
    ),
    "true in contribution": ('{"layers": [{"name": "a", "rank": 1, "contribution": [true]}]}', "contribution must"),
    "k beyond every float": ('{"k": 1%s, "layers": [{"name": "a", "rank": 1}]}' % ("0" * 400), "k is 1000"),
    "too deep": ("[" * 100_000, "not readable as JSON"),
    "unknown field": (
        '{"comment": "x", "layers": [{"name": "a", "rank": 1}]}',
        r"unknown field 'comment'; allowed: k, .*note",
    ),
    "field misspelt": (
        '{"layers": [{"name": "a", "rnak": 1}]}',
        r"layers\[0\] \(a\): unknown field 'rnak'; did you mean 'rank'",
    ),
    "other constraint": (
        '{"constraint": "max", "layers": [{"name": "a", "rank": 1}]}',
        "constraint is 'max'; allowed: softmax, sigmoid, none",
    ),
    "rule of number": ('{"rule": 3, "layers": [{"name": "a", "rank": 1}]}', "rule is 3; allowed: text"),
    "lambda in words": (
        '{"lambda": "1/k", "layers": [{"name": "a", "rank": 1}]}',
        "lambda is '1/k'; allowed: a number, null",
    ),
    "half a budget": (
        '{"budget": 0.5, "layers": [{"name": "a", "rank": 1}]}',
        "budget is 0.5; allowed: a whole number",
    ),
    "no scale": (
        '{"lora_alpha": 0, "layers": [{"name": "a", "rank": 1}]}',
        "lora_alpha is 0; allowed: a number above",
    ),
    "other scale": (
        '{"scale": "rank", "layers": [{"name": "a", "rank": 1}]}',
        "scale is 'rank'; allowed: mean_rank, component, fixed, rslora, null",
    ),
    "base of number": ('{"base_model": 3, "layers": [{"name": "a", "rank": 1}]}', "base_model is 3; allowed: text"),
    "note of number": ('{"note": 3, "layers": [{"name": "a", "rank": 1}]}', "note is 3; allowed: text, null"),
    "decided as a number": (
        '{"layers": [{"name": "a", "rank": 1, "decided": 0}]}',
        r"layers\[0\] \(a\): decided is 0; allowed: true, false, null",
    ),
    "all zero": (layers(("encoder.0.query", 0)), "at least one rank above 0"),
    "all zero with k": ('{"k": 4, "layers": [{"name": "encoder.0.query", "rank": 0}]}', "every rank is 0"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_record_is_one_line_that_names_file_and_entry(tmp_path: Path, case: str) -> None:
    content, message = BAD[case]
    path = tmp_path / "ranks.json"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as caught:
        check_against(ranks.load(path), SHAPES, path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
