"""Files are read and written so that a reader sees the old or the new content, never half of it."""

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine.disk.files import load_json, read_json, remove, write_json, write_text


def test_files_are_replaced_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "a.json"
    write_json(path, {"text": "é", "x": 0.1})
    assert json.loads(path.read_text(encoding="utf-8")) == {"text": "é", "x": 0.1}

    def die(*arguments: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die)
        with pytest.raises(MemoryError):
            write_text(path, "half")
    assert json.loads(path.read_text(encoding="utf-8"))["x"] == 0.1


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_json_files_hold_no_nan(tmp_path: Path, value: float) -> None:
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"x": [value]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}


def test_remove_does_not_follow_a_link(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").write_text("mine")
    (tmp_path / "link").symlink_to(kept)
    remove(tmp_path / "link")
    remove(tmp_path / "absent")
    assert (kept / "file").exists()
    assert not (tmp_path / "link").exists()


def test_a_missing_file_is_an_empty_object(tmp_path: Path) -> None:
    assert read_json(tmp_path / "absent.json") == {}
    (tmp_path / "x.json").write_text('{"a": 1}')
    assert read_json(tmp_path / "x.json") == {"a": 1}


@pytest.mark.parametrize(
    "content", [b"", b"\xff\x00", b'{"a": 1', b"[" * 100_000], ids=["empty", "bytes", "half", "deep"]
)
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"^{path}: not readable as JSON \(") as refused:
        load_json(path)
    assert "\n" not in str(refused.value)


def test_a_name_that_is_given_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ranks.json"
    path.write_text('{"k": 4, "layers": [{"name": "a", "rank": 1, "rank": 2}]}')
    with pytest.raises(UserError, match=r"ranks\.json: not readable as JSON \('rank' is given twice in one object\)"):
        load_json(path)


def test_a_file_is_on_the_disk_before_it_takes_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a loss of power could leave an empty file under the final name."""
    done: list[str] = []
    for name in ("fsync", "replace"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, n=name, o=original: (done.append(n), o(*given)))
    write_text(tmp_path / "a.json", "{}")
    assert done == ["fsync", "replace"]
