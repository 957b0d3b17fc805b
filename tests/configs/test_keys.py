"""Names of keys, words for what they take, and jsonargparse's complaints as one line (as it words them itself)."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from configs.errors import UserError
from configs.keys import (
    REFUSED,
    SWITCHES,
    allowed,
    check_values,
    known_keys,
    one_line,
    split_range,
    unknown_key,
    words,
)
from configs.parser import parse
from configs.ranges import Rank
from configs.schema import LoraSettings, RunConfig
from configs.values import with_values


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
        (list[str], "a list of names, such as [a,b]"),
        (list[int] | None, "a list of whole numbers, such as [1,2], null"),
        (list[float], "a list of values, such as [0.1,0.2]"),
        (list[Literal["uniform", "random"]], "a list of: uniform, random"),
        (list[list[str]], "a list of lists of names, such as [[query]]"),
        (list[dict[str, Any]], "a list of keys with values, such as [{seed: 1}]"),
        (dict[str, list[Any]], "keys with lists of values, such as {seed: [0,1]}"),
        (dict[str, dict[str, Any]], "names with keys and values, such as {wide: {lora.k: 16}}"),
    ],
)
def test_words_of_a_type(kind: Any, said: str) -> None:
    assert words(kind) == said


UNKNOWN = {
    "lora.kk": "lora.k",  # a slip of the pen
    "lora.patience": "search.patience",  # in a section where it is not: the same word before a word that looks like it
}


@pytest.mark.parametrize("key", UNKNOWN)
def test_an_unknown_key_comes_with_the_nearest(key: str) -> None:
    assert unknown_key(key) == f"unknown key {key!r}; did you mean {UNKNOWN[key]!r}?"


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("batch_size", "'search.batch_size', 'retrain.batch_size' or 'decode.batch_size'"),  # its section left out
        ("lora.learning_rate", "'search.learning_rate' or 'retrain.learning_rate'"),
        ("lora.rank", "'lora.r', 'lora.k' or 'lora.ranks_from'"),  # the beginning of one, and near to two others
    ],
)
def test_an_unknown_key_comes_with_all_that_are_as_near(key: str, said: str) -> None:
    assert unknown_key(key) == f"unknown key {key!r}; did you mean {said}?"


def test_a_key_that_is_near_to_none_gets_no_guess() -> None:
    assert unknown_key("qqqqqq") == "unknown key 'qqqqqq'; --help lists the keys"


def test_a_key_that_a_study_cannot_vary_is_not_proposed_as_itself() -> None:
    with pytest.raises(UserError, match=r"^unknown key 'stage'; (?!did you mean 'stage')"):
        with_values(RunConfig(), {"stage": "search"})


def test_an_empty_value_is_refused_by_the_name_that_the_user_gave() -> None:
    with pytest.raises(UserError, match=r"^--answer\.from: '' is not allowed"):
        with_values(RunConfig(name="a"), {"answer.from": ""})


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("error: Unrecognized arguments: --lora.kk=3", "unknown key 'lora.kk'; did you mean 'lora.k'?"),
        ("Group 'lora' does not accept option 'kk'", "unknown key 'lora.kk'; did you mean 'lora.k'?"),
        ("Option 'sed' is not accepted", "unknown key 'sed'; did you mean 'seed'?"),
        (
            'Parser key "lora.k":\n  Expected a <class int>.\n  Got value: 2.5',
            "--lora.k: '2.5' is not allowed; allowed: a whole number: 1 to 1024",
        ),
        (
            'Parser key "task.train_rows":\n    - Expected a <class int>. Got value: True\n  Given value: true',
            "--task.train_rows: 'true' is not allowed; allowed: a whole number: 1 to 1,000,000,000, or null",
        ),
        (
            'Parser key "name":\n  Does not validate:\n    - Expected a <class str>. Got value: 12\n'
            "  Given value: 12\n    - Expected a <class NoneType>\n  Given value: 12",
            "--name: '12' is not allowed; allowed: text, null",
        ),
        (
            'Parser key "task.text_columns":\n  Expected a <class str>. Got value: False\n'
            "  Given value: ['a', False]",
            "--task.text_columns: \"['a', False]\" is not allowed (YAML reads an unquoted no, yes, null or number as "
            "another type, here False; quote it: '[\"no\"]'); allowed: a list of names, such as [a,b], null",
        ),
        (
            "unrecognized arguments: a b.yaml --x 1",
            "'a b.yaml' belongs to no option; did you mean --config 'a b.yaml'?",
        ),
        ("argument -h/--help: ignored explicit argument '3'", "--help: takes no value; allowed: --help alone"),
        ("While parsing:\n    line 3,\n  column 1\n", "While parsing: line 3, column 1"),
    ],
)
def test_a_complaint_is_one_line(message: str, line: str) -> None:
    assert one_line(message) == line


REASONS = {
    "--hypergradient.type: 'reinforce'": ("Betty 0.2.1 leaves it unfinished", "first_order, darts, "),
    "--strategy: 'zero'": ("a few MB", "auto, distributed"),
    "--strategy: 'fsdp'": ("splits the parameters", "auto, distributed"),
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
