"""A damaged cache of the package datasets is overwritten, with a warning of one line; other errors are raised."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import TaskConfig
from autolora.problems.tasks.glue import Glue
from autolora.problems.tasks.readers.cache import mapped
from tests.helpers.glue_folders import folder_of, rows
from tests.helpers.tiny import make_tokenizer

Damage = Callable[[bytes], bytes]

DAMAGES: dict[str, Damage] = {
    "emptied": lambda content: b"",
    "cut": lambda content: content[: len(content) // 2],
    "the head cut": lambda content: content[:100],
    "nonsense": lambda content: b"\xff\x00 no arrow" * 200,
    "a torn header": lambda content: content[:200] + b"\xff" * 64 + content[264:],
}


@pytest.fixture
def glue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Any]]:
    """Reads and encodes a local folder, and gives the training rows."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    path = folder_of(tmp_path / "d", "rte", {"train": rows("rte", 1), "validation": rows("rte", 1)})

    def read() -> list[Any]:
        task = Glue(TaskConfig(type="glue", name="rte", path=path))
        return list(task.encode(task.rows().train, make_tokenizer()))

    return read


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("pattern", ["cache-*.arrow", "*-train.arrow", "dataset_info.json"])
def test_a_damaged_file_is_overwritten(
    glue: Callable[[], list[Any]], tmp_path: Path, log_lines: list[str], damage: str, pattern: str
) -> None:
    expected = glue()
    assert log_lines == []
    (file,) = (tmp_path / "cache").rglob(pattern)
    content = file.read_bytes()
    file.unlink()  # the old file is still open in memory
    file.write_bytes(DAMAGES[damage](content))
    assert glue() == expected
    assert len(log_lines) == 1
    assert log_lines[0].startswith("WARNING the ")
    assert " in the cache are damaged (" in log_lines[0]
    assert "\n" not in log_lines[0]
    log_lines.clear()
    assert glue() == expected
    assert log_lines == [], "the overwritten cache is not damaged"


def test_an_error_of_the_rows_themselves_goes_on(log_lines: list[str]) -> None:
    calls: list[int] = []

    def refuse(batch: Any) -> Any:
        calls.append(1)
        raise UserError("no")

    with pytest.raises(UserError, match="no"):
        mapped(datasets.Dataset.from_dict({"a": [1]}), refuse)
    assert (len(calls), log_lines) == (1, [])
