"""The JSON files of a run are read as what they should hold, or refused by name. tests/test_damaged_files.py damages
those of a real run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine.run.contents import (
    read_result,
    read_samples,
    read_searched,
    read_trials_file,
    read_verdict,
)
from tests.helpers.finished import RESULT

SAID = {"ending": "equal", "sentence": "S.", "pairs": 1, "recommendation": "R."}
LEARNED = {"name": "learned", "losses": [0.5], "parameters": 8}
TRIAL = {"tried": {"learning_rate": 0.1}, "metrics": {}, "steps": 0, "seconds": 0.0}
Read = Callable[[Path], dict[str, Any]]


@pytest.mark.parametrize(
    ("read", "whole"), [(read_result, RESULT), (read_searched, {"parameters_per_rank": {}}), (read_trials_file, {})]
)
def test_a_file_that_is_not_there_is_empty_and_unknown_keys_are_kept(
    tmp_path: Path, read: Read, whole: dict[str, Any]
) -> None:
    path = tmp_path / "x.json"
    assert read(path) == {}
    path.write_text(json.dumps(whole | {"of a later version": 1}))
    assert read(path) == whole | {"of a later version": 1}


@pytest.mark.parametrize(
    ("read", "content", "place"),
    [
        (read_result, RESULT | {"metrics": {"accuracy": "high"}}, "metrics.accuracy"),
        (read_result, RESULT | {"metrics": {}}, "metrics"),
        (read_result, RESULT | {"lora_parameters": -1}, "lora_parameters"),
        (read_result, RESULT | {"seconds": None}, "seconds"),
        (read_result, RESULT | {"steps": None}, "steps"),
        (read_searched, {"steps": True}, "steps"),
        (read_searched, {"parameters_per_rank": {"query": 1.5}}, "parameters_per_rank.query"),
        (read_trials_file, {"trials": [{**TRIAL, "steps": "3"}]}, "trials.0.steps"),
        (read_verdict, SAID | {"interval": [1.0]}, "interval"),
        (read_verdict, SAID | {"interval": [1.0, 2.0, 3.0]}, "interval"),
        (read_verdict, SAID | {"arms": [LEARNED | {"losses": []}]}, "arms.0.losses"),
        (read_verdict, SAID | {"arms": [LEARNED | {"interval": [1.0]}]}, "arms.0.interval"),
        (read_verdict, SAID | {"arms": [LEARNED, LEARNED | {"losses": [0.5, 0.6]}]}, "arms"),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused_by_its_place(tmp_path: Path, read: Read, content: Any, place: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {place}: ")
    assert "; remove the file" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("read", "whole"),
    [
        (read_samples, {"prompt": [{"role": "user", "content": "q"}], "answer": "a", "reference": "b"}),
    ],
)
def test_a_damaged_line_is_refused_by_its_number(
    tmp_path: Path, read: Callable[[Path], list[Any]], whole: dict[str, Any]
) -> None:
    path = tmp_path / "x.jsonl"
    assert read(path) == []
    for bad in ('{"prompt": [', "5", "", '{"prompt": 5}'):
        path.write_text("".join(f"{line}\n" for line in (json.dumps(whole), bad, json.dumps(whole))))
        with pytest.raises(UserError, match=rf"^{path}: line 2\b.*; remove the file, and ") as caught:
            read(path)
        assert "\n" not in str(caught.value)
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=rf"^{path}: line 1 is not readable as JSON"):
        read(path)
    path.write_text(f"{json.dumps(whole)}\n{json.dumps(whole)}\n")
    assert read(path) == [whole, whole]


@pytest.mark.parametrize(
    ("read", "content", "place"),
    [
        (read_result, {key: value for key, value in RESULT.items() if key != "task"}, "task"),
        (read_result, RESULT | {"seconds": {"search": 1.0}}, r"seconds\.total"),
        (read_searched, {}, "parameters_per_rank"),
        (read_verdict, SAID | {"arms": [{"name": "learned", "losses": [0.5]}]}, r"arms\.0\.parameters"),
    ],
)
def test_a_key_that_is_not_there_is_missed_by_name(tmp_path: Path, read: Read, content: Any, place: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=rf"^{path}: {place} is missing; remove the file"):
        read(path)
