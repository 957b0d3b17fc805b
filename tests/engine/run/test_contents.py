"""The JSON files of a run are read as what they should hold, or refused by name. tests/test_damaged_files.py damages
those of a real run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from configs.errors import UserError
from engine.run.contents import read_result, read_searched, read_trials_file

TRIAL = {"tried": {"learning_rate": 0.1}, "metrics": {}, "steps": 0, "seconds": 0.0}
Read = Callable[[Path], dict[str, Any]]


@pytest.mark.parametrize("read", [read_result, read_searched, read_trials_file])
def test_a_file_that_is_not_there_is_empty_and_unknown_keys_are_kept(tmp_path: Path, read: Read) -> None:
    path = tmp_path / "x.json"
    assert read(path) == {}
    path.write_text('{"of a later version": 1}')
    assert read(path) == {"of a later version": 1}


@pytest.mark.parametrize(
    ("read", "content", "place"),
    [
        (read_result, {"metrics": {"accuracy": "high"}}, "metrics.accuracy"),
        (read_result, {"metrics": {}}, "metrics"),
        (read_result, {"lora_parameters": -1}, "lora_parameters"),
        (read_result, {"seconds": {"search": 1.0}}, "seconds.total"),
        (read_result, {"seconds": None}, "seconds"),
        (read_result, {"steps": None}, "steps"),
        (read_searched, {"steps": True}, "steps"),
        (read_searched, {"parameters_per_rank": {"query": 1.5}}, "parameters_per_rank.query"),
        (read_trials_file, {"trials": [{**TRIAL, "steps": "3"}]}, "trials.0.steps"),
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


def test_a_key_that_the_reader_needs_is_missed_by_name(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text('{"method": "lora"}')
    assert read_result(path, "method") == {"method": "lora"}
    with pytest.raises(UserError, match=rf"^{path}: task is missing; remove the file"):
        read_result(path, "method", "task")
