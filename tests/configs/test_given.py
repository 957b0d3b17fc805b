"""Which keys count as given by the user: those on the command line, and those of own files that are no defaults."""

from pathlib import Path

from autolora.configs.given import given_of
from autolora.configs.parser import parse
from autolora.configs.requests import Given
from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values


def test_keys_may_come_in_a_group_and_are_those_that_were_given() -> None:
    request = parse(["--lora", "{r: 6}", "--study.axes.seed", "[0]", "--search.steps=4", "--stage", "search"])
    assert request.given == Given(frozenset({"lora.r", "study.axes", "search.steps"}))


def test_of_a_user_s_files_the_keys_are_given_whose_values_are_no_defaults(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("lora: {k: 9, r: 4}\nname: mine\n")
    second.write_text("search.steps: 5\n")
    request = parse(["--config", str(first), "--config", str(second), "--seed", "1"])
    files = {"lora.k": str(first), "name": str(first), "search.steps": str(second)}
    assert request.given == Given(frozenset({"seed"}), files)


def test_a_later_file_takes_a_key_over_and_no_shipped_file_gives_one(tmp_path: Path) -> None:
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("search: {steps: 5}\nseed: 3\n")
    second.write_text("search.steps: 6\n")
    sources = ["glue_sst2.yaml", str(first), str(second)]
    config = with_values(RunConfig(name="a"), {"search.steps": 6, "seed": 3, "lora.k": 9})
    found = given_of({}, sources, config)
    assert found == Given(frozenset(), {"search.steps": str(second), "seed": str(first)})
    assert [found.where(key) for key in ("seed", "lora.k")] == [f"{first}: ", None]


def test_what_is_no_key_of_a_run_is_not_given() -> None:
    command = {"stage": "search", "config": ["a.yaml"], "lora": {"r": 2}, "study": {"axes": {"lora.k": [1]}}}
    assert given_of(command, [], RunConfig(name="a")) == Given(frozenset({"lora.r", "study.axes"}))
