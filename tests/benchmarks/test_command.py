"""Settings, errors, children and what the JSON says about the machine."""

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
from pydantic import Field
from rich.table import Table

from autolora.configs.errors import UserError
from autolora.configs.section import Count
from benchmarks import command
from benchmarks.command import child, main, parse_settings


class Settings(command.Settings):
    """Some settings."""

    rounds: Count = 3
    """Rounds."""
    sizes: list[Annotated[int, Field(ge=2)]] = Field(default=[2, 4], min_length=1)
    """Sizes."""
    plot: str | None = None
    """Picture."""

    PICTURES: ClassVar = ("plot",)


def measure(settings: Settings) -> tuple[dict[str, Any], list[Table]]:
    if settings.rounds == 7:
        raise UserError("--rounds: not on a Sunday")
    return {"seconds": {"a": 0.5 * settings.rounds}, "p": (0.5, [float("nan")])}, []


@pytest.mark.trains
def test_the_json_holds_numbers_settings_and_machine(tmp_path: Path) -> None:
    place = tmp_path / "out" / "numbers.json"
    assert main(Settings, measure, ["--json", str(place), "--rounds", "4"]) == 0
    content = json.loads(place.read_text())
    assert (content["seconds"], content["p"]) == ({"a": 2.0}, [0.5, [None]])
    assert content["settings"] == {"json": str(place), "rounds": 4, "sizes": [2, 4], "plot": None}
    assert {"processor", "cores", "threads", "gpu", "load_average", "versions", "commit"} <= set(content["machine"])
    assert content["machine"]["versions"]["betty-ml"] == "0.2.1"


@pytest.mark.parametrize(
    ("argv", "named"),
    [
        (["--rounds", "0"], "rounds: Input should be greater than or equal to 1"),
        (["--rounds", "many"], "rounds"),
        (["--round", "2x"], "round"),
        (["--rounds", "7"], "not on a Sunday"),
        (["--sizes", "[]"], "sizes: List should have at least 1 item"),
        (["--plot", "x.txt"], "--plot: x.txt is not allowed; allowed: a name that ends with .png"),
        (["--sizes", "[8,1]"], "sizes: Input should be greater than or equal to 2"),
    ],
)
def test_bad_settings_are_one_line_and_code_2(argv: list[str], named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(Settings, measure, argv) == 2
    error = capsys.readouterr().err
    assert named in error
    assert error.count("\n") == 1


def test_a_file_that_cannot_be_written_is_refused_before_the_measurement(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(_: Settings) -> Any:
        pytest.fail("it was measured")

    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file" / "below.json"):
        assert main(Settings, measured, ["--json", str(place)]) == 2
        assert capsys.readouterr().err == (
            f"error: --json: {place} cannot be written; allowed: a file in a folder that can be written to\n"
        )


def test_help_says_what_each_setting_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(Settings, ["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "--json (None): File that gets the numbers." in shown
    assert "--rounds (3): Rounds." in shown


def test_no_json_is_the_default() -> None:
    assert parse_settings(Settings, []) == Settings()


def test_an_abbreviated_setting_is_refused() -> None:
    with pytest.raises(UserError, match=r"^--round: there is no such key; "):
        parse_settings(Settings, ["--round", "4"])


@pytest.mark.trains
def test_a_child_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="unknown_module_of_nobody"):
        child("unknown_module_of_nobody", {})
