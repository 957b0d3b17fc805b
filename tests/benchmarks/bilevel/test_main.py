"""The command: its table, its numbers, its picture, and what it refuses."""

import json
from pathlib import Path

import pytest

from benchmarks.bilevel.__main__ import BilevelSettings, measure_bilevel
from benchmarks.command import main

SHORT = ["--passes", "60", "--inputs", "4", "--rows", "8", "--seeds", "2", "--methods", "[first_order, exact]"]


@pytest.mark.trains
def test_it_writes_numbers_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = ["--json", str(tmp_path / "x.json"), "--picture", str(tmp_path / "x.png")]
    assert main(BilevelSettings, measure_bilevel, [*SHORT, *files]) == 0
    rows = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert [(row["method"], row["unroll_steps"]) for row in rows] == [
        ("first_order", 1), ("exact", 1), ("first_order", 10), ("exact", 10)
    ]  # fmt: skip
    assert rows[0]["cosine"] == [None, None]
    assert rows[0]["closed"] == [0, 0]
    assert all(-1 <= cosine <= 1 for cosine in rows[1]["cosine"])
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
    assert "none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "[sama]"], "error: --methods: 'sama' is not allowed; allowed: first_order, darts, "),
        (["--picture", "x.jpg"], "error: --picture: x.jpg is not allowed; allowed: a name that ends with .png"),
        (["--unroll_steps", "[0]"], "error: --unroll_steps: 0 is not allowed; allowed: 1 or more"),
    ],
)
def test_wrong_settings_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BilevelSettings, measure_bilevel, [*SHORT, *arguments]) == 2
    assert message in capsys.readouterr().err
