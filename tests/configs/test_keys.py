"""Names of keys, words for what they take, and the reasons why some values are refused."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from autolora.configs.errors import UserError
from autolora.configs.keys import REFUSED, SWITCHES, allowed, check_values, known_keys, split_range, words
from autolora.configs.parser import parse
from autolora.configs.ranges import Rank
from autolora.configs.schema import LoraSettings, RunConfig
from autolora.configs.values import with_values


@dataclass(frozen=True)
class Leaf:
    depth: Rank
    kind: Literal["a", "b"]


@dataclass(frozen=True)
class Branch:
    leaf: Leaf
    name: str | None


@dataclass(frozen=True)
class Tree:
    branch: Branch
    seed: int


def test_a_key_is_the_dotted_path_to_a_field_and_sections_are_none() -> None:
    assert known_keys(Tree) == {
        "branch.leaf.depth": Rank,
        "branch.leaf.kind": Literal["a", "b"],
        "branch.name": str | None,
        "seed": int,
    }


def test_a_type_comes_apart_from_its_range() -> None:
    kind, limits = split_range(Rank)
    assert kind is int
    assert limits is not None
    assert limits.words == "1 to 1024"
    assert split_range(str | None) == (str | None, None)


def test_null_is_refused_by_a_key_that_does_not_take_it() -> None:
    nothing: Any = None
    with pytest.raises(UserError, match=r"^--lora\.k: null is not allowed; allowed: a whole number$"):
        check_values(RunConfig(name="a", lora=LoraSettings(k=nothing)))
    check_values(RunConfig(name="a", lora=LoraSettings(ranks_from=None)))


def test_every_key_and_switch_has_words() -> None:
    found = allowed()
    assert set(known_keys()) < set(found)
    assert {"config", "stage", "overwrite", "show", "workspace", "score", "hyp", "ref", "json"} <= set(found)
    assert set(SWITCHES) <= set(found)
    assert all(found.values())
    assert found["stage"] == "all, search, retrain, report, verdict"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (int, "a whole number"),
        (Rank, "a whole number"),
        (bool, "true or false"),
        (Literal["lr", "betty"], "lr, betty"),
        (float | Literal["lr"], "a number, lr"),
        (str | None, "text, null"),
        (list[str], 'a list of names, such as "[a,b]"'),
        (list[int] | None, 'a list of whole numbers, such as "[1,2]", null'),
        (list[float], 'a list of values, such as "[0.1,0.2]"'),
        (list[Literal["uniform", "random"]], "a list of: uniform, random"),
        (list[list[str]], 'a list of lists of names, such as "[[query]]"'),
        (list[dict[str, Any]], 'a list of keys with values, such as "[{seed: 1}]"'),
        (dict[str, list[Any]], 'keys with lists of values, such as "{seed: [0,1]}"'),
        (dict[str, dict[str, Any]], 'names with keys and values, such as "{wide: {lora.k: 16}}"'),
    ],
)
def test_words_of_a_type(kind: Any, said: str) -> None:
    assert words(kind) == said


def test_an_empty_value_is_refused_by_the_name_that_the_user_gave() -> None:
    with pytest.raises(UserError, match=r"^--answer\.from: '' is not allowed"):
        with_values(RunConfig(name="a"), {"answer.from": ""})


REASONS = {
    "--hypergradient.type: 'reinforce'": ("Betty 0.2.1 leaves it unfinished", "first_order, darts, "),
}


@pytest.mark.parametrize("case", REASONS)
def test_what_a_reader_of_bettys_pages_expects_is_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    key, value = case.removeprefix("--").replace("'", "").split(": ")
    reason, others = REASONS[case]
    file = tmp_path / "c.yaml"
    file.write_text(key.replace(".", ":\n  ") + f": {value}\n")
    for arguments in ([f"--{key}", value], ["--config", str(file)]):
        with pytest.raises(UserError) as caught:
            parse(arguments)
        said = str(caught.value)
        assert f"{case} is not allowed (Betty" in said
        assert reason in said
        assert f"); allowed: {others}" in said
        assert "\n" not in said


def test_the_table_of_reasons_is_of_keys_and_of_values_that_they_do_not_take() -> None:
    assert len(REASONS) == len(REFUSED)
    assert all(value not in allowed()[key].split(", ") for key, value in REFUSED)


def test_other_unknown_names_get_no_reason() -> None:
    with pytest.raises(UserError, match=r"^--hypergradient\.type: 'reinforced' is not allowed; allowed: "):
        parse(["--hypergradient.type", "reinforced"])


@pytest.mark.parametrize(("value", "meant"), [("dart", "darts"), ("exact-adamw", "exact_adamw"), ("quadratic", None)])
def test_a_misspelt_word_gets_the_nearest_one(value: str, meant: str | None) -> None:
    with pytest.raises(UserError) as caught:
        parse(["--hypergradient.type", value])
    assert str(caught.value).endswith(f"; did you mean {meant}?" if meant else "FILE.py:CLASS")
