"""The first screen of --help, and what it says that a key allows."""

import re

import pytest

from autolora.configs.help import COMMON, USAGE
from autolora.configs.keys import SWITCHES, allowed
from autolora.configs.parser import build_parser, parse


def test_help_says_what_a_key_means(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--help"])
    assert ended.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--search.unroll_steps" in text
    assert "Inner steps per outer step. Paper: 1. (allowed: 1 to 1,000,000,000, default: 1)" in text
    assert "function" not in text, "no type of Python"


def test_help_begins_with_the_common_keys_and_then_goes_section_by_section(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--help"])
    lines = capsys.readouterr().out.splitlines()
    keys = {word.removeprefix("--") for word in (line.split()[0] for line in lines[:24] if line.startswith("  --"))}
    assert keys == set(COMMON)
    assert keys <= {*allowed(), "config"}
    assert max(map(len, lines[:25])) <= 100
    assert any(line.startswith("Without --config the values of quickstart.yaml stand in place") for line in lines[:8])
    places = [next(n for n, line in enumerate(lines) if line.startswith(f"--{s}.*: ")) for s in ("model", "search")]
    assert len(keys) < places[0] < places[1]
    assert any(line.split()[:1] == ["--print_config"] for line in lines)


def test_the_usage_names_only_options_that_there_are() -> None:
    named = set(re.findall(r"--([a-z_.]+)", USAGE))
    assert named <= {*SWITCHES, "config"}
    assert {"config", "show", "score", "stage"} <= named


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("show", "a path"),
        ("model.name", "a path"),
        ("for", "peft, trl, axolotl, llama-factory, unsloth"),
        ("seed", "0 to 2147483647"),
        ("search.dropout", "true or false"),
        ("overwrite", "true or false"),
        ("lora.target_modules", "at least one module name, or all-linear alone"),
        ("model.revision", "text, null"),
    ],
)
def test_what_a_key_allows_is_said_in_words(key: str, said: str) -> None:
    text = " ".join(build_parser().format_help().split("All keys, section by section")[1].split())
    found = re.search(rf" --{re.escape(key)} [^ ]+ .*?\(allowed: (.*?), default", text)
    assert found is not None
    assert found[1] == said


def test_an_example_of_a_list_or_of_braces_is_quoted_as_a_shell_needs_it() -> None:
    text = " ".join(build_parser().format_help().split())
    assert 'such as "[q_proj,v_proj]"' in text
    assert not re.findall(r"such as [\[{].{9}", text + " ".join(allowed().values()))
