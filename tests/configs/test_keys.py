"""Names of keys, words for what they take, and jsonargparse's complaints as one line (as it words them itself)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import pytest

from configs.keys import allowed, known_keys, one_line, unknown_key, words
from configs.rules import REFUSED


@dataclass(frozen=True)
class Leaf:
    depth: int
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
        "branch.leaf.depth": int,
        "branch.leaf.kind": Literal["a", "b"],
        "branch.name": str | None,
        "seed": int,
    }


def test_every_key_and_switch_has_words() -> None:
    found = allowed()
    assert set(known_keys()) < set(found)
    assert {"config", "stage", "overwrite", "show", "workspace", "score", "hyp", "ref", "json"} <= set(found)
    assert all(found.values())
    assert found["stage"] == "all, search, retrain, report"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (int, "a whole number"),
        (bool, "true or false"),
        (Literal["lr", "betty"], "lr, betty"),
        (float | Literal["lr"], "a number, lr"),
        (str | None, "text, null"),
        (list[str], "a list of names, as [query,value]"),
        (list[int] | None, "a list of whole numbers, as [1,2], null"),
        (list[float], "a list of values, as [0.1,0.2]"),
        (dict[str, dict[str, Any]], "keys with values"),
    ],
)
def test_words_of_a_type(kind: Any, said: str) -> None:
    assert words(kind) == said


UNKNOWN = {
    "lora.kk": "lora.k",  # a slip of the pen
    "batch_size": "search.batch_size",  # its section left out
    "lora.seed": "seed",  # in a section where it is not: the same word before a word that looks like it
}


@pytest.mark.parametrize("key", UNKNOWN)
def test_an_unknown_key_comes_with_the_nearest(key: str) -> None:
    assert unknown_key(key) == f"unknown key {key!r}; did you mean {UNKNOWN[key]!r}?"


def test_a_key_that_is_near_to_none_gets_no_guess() -> None:
    assert unknown_key("qqqqqq") == "unknown key 'qqqqqq'; --help lists the keys"


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("error: Unrecognized arguments: --lora.kk=3", "unknown key 'lora.kk'; did you mean 'lora.k'?"),
        ("Group 'lora' does not accept option 'kk'", "unknown key 'lora.kk'; did you mean 'lora.k'?"),
        ("Option 'sed' is not accepted", "unknown key 'sed'; did you mean 'seed'?"),
        (
            'Parser key "lora.k":\n  Expected a <class int>.\n  Got value: 2.5',
            "--lora.k: '2.5' is not allowed; allowed: a whole number",
        ),
        ("While parsing:\n    line 3,\n  column 1\n", "While parsing: line 3, column 1"),
    ],
)
def test_a_complaint_is_one_line(message: str, line: str) -> None:
    assert one_line(message) == line


def test_a_value_that_is_refused_for_a_reason_says_it() -> None:
    (key, value), reason = next(iter(REFUSED.items()))
    line = one_line(f'Parser key "{key}":\n  Given value: {value}')
    assert line == f"--{key}: {value!r} is not allowed ({reason}); allowed: {allowed()[key]}"
