"""The command: its table, its numbers, its picture, and what it refuses."""

import json
from pathlib import Path

import pytest

from autolora.configs.search import COMPARED as TYPES
from benchmarks.bilevel.__main__ import BilevelSettings, measure_bilevel
from benchmarks.command import main
from tests.helpers.places import ROOT

OWN = ROOT / "tests" / "helpers" / "own_hypergradients.py"
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
    shown = capsys.readouterr().out
    assert "none" in shown
    assert rows[0]["stopped"] == [None, None]
    assert "stopped" not in shown


def test_ones_own_is_made_with_its_options_anew_for_each_problem(tmp_path: Path) -> None:
    """It counts its calls, and fails at a certain one."""
    given = [*SHORT, "--methods", f"[{OWN}:Carrying]", "--unroll_steps", "[1]", "--json", str(tmp_path / "x.json")]
    assert main(BilevelSettings, measure_bilevel, [*given, "--options", "{fails_at: 100}"]) == 0
    (row,) = json.loads((tmp_path / "x.json").read_text())["rows"]
    assert row["outer_steps"] < 100 < 2 * row["outer_steps"] + 100
    assert len(row["cosine"]) == 2


@pytest.mark.trains
def test_with_an_inner_adam_those_that_model_its_step_are_tried_too(tmp_path: Path) -> None:
    given = [*SHORT, "--methods", "[]", "--unroll_steps", "[1]", "--json", str(tmp_path / "x.json")]
    tried = {}
    for inner in ("sgd", "adam"):
        assert main(BilevelSettings, measure_bilevel, [*given, "--inner", inner]) == 0
        tried[inner] = [row["method"] for row in json.loads((tmp_path / "x.json").read_text())["rows"]]
    assert set(tried["adam"]) - set(tried["sgd"]) == {"sama", "exact_adamw"}
    assert tried["adam"] == list(TYPES)


@pytest.mark.trains  # the JSON names the commit, which a process of its own tells
def test_a_descent_that_is_not_finite_is_named_with_the_passes_that_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its last finite point had stood there like one after all passes."""
    given = [*SHORT, "--inner_rate", "1e6", "--passes", "900", "--unroll_steps", "[1]"]
    assert main(BilevelSettings, measure_bilevel, [*given, "--json", str(tmp_path / "x.json")]) == 0
    first_order, exact = json.loads((tmp_path / "x.json").read_text())["rows"]
    for row in (first_order, exact):
        assert row["stopped"] == [curve[0][-1] for curve in row["curves"]]
        assert all(0 < passes < 900 for passes in row["stopped"])
    said = " ".join(capsys.readouterr().out.split())
    first = min(first_order["stopped"])
    assert f"first_order, 1 inner: stopped on 2 of 2 problems, first after {first} passes: not finite" in said


@pytest.mark.parametrize(
    "arguments",
    [
        ["--methods", f"[{OWN}:Endless]", "--unroll_steps", "[3]"],
        ["--methods", "[exact]", "--unroll_steps", "[200]", "--inner_rate", "100"],
    ],
)
def test_a_first_step_that_is_not_finite_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BilevelSettings, measure_bilevel, [*SHORT, *arguments]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: --methods: ")
    assert "inner steps: the first outer step of problem 0 is not finite; a lower --inner_rate may help" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--methods", "[sama]"], "error: --methods: 'sama' is not allowed; allowed: first_order, darts, "),
        (["--inner", "adamax"], "error: --inner: Input should be 'sgd' or 'adam'"),
        (["--picture", "x.jpg"], "error: --picture: x.jpg is not allowed; allowed: a name that ends with .png"),
        (["--unroll_steps", "[0]"], "error: --unroll_steps: Input should be greater than or equal to 1"),
        (["--batch_rows", "9"], "error: --batch_rows: 9 is not allowed; allowed: at most --rows 8"),
        (["--batch_rows", "0"], "error: --batch_rows: Input should be greater than or equal to 1"),
        (["--eta", "nan"], "error: --eta: Input should be a finite number"),
        (["--eta", "-1"], "error: --eta: Input should be greater than or equal to 0"),
        (["--inner_rate", "0"], "error: --inner_rate: Input should be greater than 0"),
        (["--options", "{rate: 1}"], "error: --options: does nothing without an approximation of your own in --metho"),
        (["--methods", "[no.py:Mine]"], "error: --methods: there is no file no.py; allowed: FILE.py:CLASS with a"),
    ],
)
def test_wrong_settings_are_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BilevelSettings, measure_bilevel, [*SHORT, *arguments]) == 2
    assert message in capsys.readouterr().err
