from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.parser import parse


def test_a_section_comes_from_a_file_after_either_sign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lora.yaml").write_text("r: 6\ntarget_modules: [query]\n")
    for given in (["--lora", str(tmp_path / "lora.yaml")], ["--lora=~/lora.yaml"]):
        request = parse([*given, "--lora.k", "9"])
        lora = request.config.lora
        assert (lora.r, lora.k, lora.target_modules) == (6, 9, ["query"])
        assert request.given.command == {"lora.r", "lora.target_modules", "lora.k"}


def test_a_section_comes_in_braces(tmp_path: Path) -> None:
    assert parse(["--study.ray", "{retries: 3}", "--lora={r: 6}"]).config.study.ray.retries == 3
    ranks = tmp_path / "ranks.json"
    assert parse(["--answer", f"{{from: {ranks}}}"]).config.answer.from_run == str(ranks)


def test_an_option_overrules_a_section_that_stands_before_it() -> None:
    assert parse(["--lora", "{r: 6}", "--lora.r", "2"]).config.lora.r == 2


MISTAKES = {
    "missing.yaml": (
        "--lora: no file 'missing.yaml'; --lora takes a YAML file with keys of its section; to set one key, give it "
        "by its name, such as --lora.target_modules"
    ),
    "x" * 300: "--lora: no file 'xxx",
    "": "--lora: no file ''",
    "{r: 6, r: 2}": "--lora, line 1: r is given a second time (first in line 1); give it once",
    "{q: 6}": "--lora: unknown key 'lora.q'; did you mean 'lora.r' or 'lora.k'?",
    "{r: ": "--lora: not readable as YAML (",
    "{r: a}": "--lora.r: 'a' is not allowed; allowed: a whole number: ",
}


@pytest.mark.parametrize("value", MISTAKES)
def test_a_wrong_section_is_one_line(value: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(["--lora", value])
    assert str(caught.value).startswith(MISTAKES[value])


IN_FILES = {
    "r: 6\nr: 2\n": ", line 2: r is given a second time (first in line 1); give it once",
    "q: 6\n": ": unknown key 'lora.q'; did you mean 'lora.r' or 'lora.k'?",
    "6": ": needs keys with values; holds 6",
}


@pytest.mark.parametrize("text", IN_FILES)
def test_a_wrong_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "lora.yaml"
    file.write_text(text)
    with pytest.raises(UserError) as caught:
        parse(["--lora", str(file)])
    assert str(caught.value) == f"{file}{IN_FILES[text]}"


def test_a_section_without_a_value_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^--lora: needs a value; allowed: a YAML file with keys of its section$"):
        parse(["--lora"])
