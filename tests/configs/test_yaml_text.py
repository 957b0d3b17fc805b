"""A YAML file that would lose a value, or hang or fail whoever reads it, is refused in one line."""

from pathlib import Path

import pytest

from autolora.configs.errors import UserError
from autolora.configs.files import read_keys, shipped_configs
from autolora.configs.parser import parse
from autolora.configs.ranges import DEEPEST
from autolora.configs.yaml_text import plain_values, read_yaml, to_text
from tests.helpers.places import ROOT

ALIASES = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12))

WRONG = {
    "a key": ("search:\n  steps: 3\n  batch_size: 8\n  steps: 4\n", "c.yaml, line 4: search.steps is given a second"),
    "a section": (
        "search: {steps: 3}\nlora: {k: 4}\nsearch: {steps: 3}\n",
        "c.yaml, line 3: search is given a",
    ),
    "a key in full, too": ("search:\n  steps: 3\nsearch.steps: 4\n", "c.yaml, line 3: search.steps is given a second"),
    "a key of an axis": (
        "study:\n  axes:\n    seed: [0]\n    seed: [1]\n",
        "c.yaml, line 4: study.axes.seed is",
    ),
    "a quoted key": ("seed: 1\n'seed': 2\n", "c.yaml, line 2: seed is given a second time (first in line 1); give it"),
    "a deep list": (f"study: {'[' * 900}{']' * 900}\n", f"c.yaml, line 1: nested more than {DEEPEST} deep; allowed"),
    "a list that libyaml itself refuses": (f"study: {'[' * 3000}{']' * 3000}\n", "c.yaml"),
    "a deep section": ("".join(f"{' ' * i}a:\n" for i in range(3000)), "c.yaml, line 31: nested more than 30 deep"),
    "a value in itself": ("study: &s\n  axes: *s\n", "c.yaml, line 1: a value contains itself (by an alias, *name)"),
    "a billion values": (f"a0: &a0 [1]\n{ALIASES}", "c.yaml, line 6: holds more than 100,000 values"),
    "an object of Python": (
        "seed: !!python/object/apply:os.getcwd []\n",
        "c.yaml: not readable as YAML (could not det",
    ),
    "a number of 5,000 digits": (f"seed: 1{'0' * 5000}\n", "c.yaml: not readable as YAML (Exceeds the limit"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_yaml_would_take_without_a_word_is_refused(tmp_path: Path, case: str) -> None:
    content, message = WRONG[case]
    path = tmp_path / "c.yaml"
    path.write_text(content)
    for read in (lambda: read_yaml(path), lambda: parse(["--config", str(path)])):
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value).startswith(f"{tmp_path}/{message}")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_a_key_may_stand_in_several_sections_and_settings_be_shared_by_an_alias(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(
        "search: &both {batch_size: 8}\nretrain:\n  <<: *both\n  epochs: 2\nstudy:\n  axes: {seed: [0, 1]}\n"
        "  variants: {a: {lora.k: 4}, b: {lora.k: 8}}\n"
    )
    assert read_keys(path)["retrain"] == {"batch_size": 8, "epochs": 2}
    assert parse(["--config", str(path)]).config.retrain.batch_size == 8


@pytest.mark.parametrize("name", shipped_configs())
def test_no_shipped_file_gives_a_key_twice(name: str) -> None:
    assert read_yaml(ROOT / "configs" / name)


def test_plain_values_are_those_of_yaml_but_for_deep_ones(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("seed: 1\nseed: 2\nsearch: {steps: 3}\n")
    assert plain_values(path) == {"seed": 2, "search": {"steps": 3}}
    path.write_text(f"{'[' * 900}{']' * 900}")
    with pytest.raises(UserError, match=rf"nested more than {DEEPEST} deep"):
        plain_values(path)


@pytest.mark.parametrize(
    "text", ["1e-3", "12e4567", "1e5", "true", "null", "a: b", "it's", "", "- x", "0x1", "1_000", "é"]
)
def test_a_text_is_read_back_as_the_same_text(tmp_path: Path, text: str) -> None:
    """`--name 1e-3` wrote a config.yaml that was refused from then on, as its name was read as a number."""
    values = {"name": text, "list": [text, 1e-5, 3, True, None], text or "key": {"b": 1, "a": 2}}
    (tmp_path / "a.yaml").write_text(to_text(values), encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == values
    assert list(values[text or "key"]) == ["b", "a"]  # type: ignore[call-overload]
