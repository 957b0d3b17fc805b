"""A name that a JSON object gives twice is refused, in an inner object too."""

import json

import pytest

from autolora.configs.json_text import GivenTwice, once


def test_an_object_has_each_name_once() -> None:
    assert json.loads('{"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]}', object_pairs_hook=once)["b"][1] == {"a": 3}
    for text in ('{"a": 1, "b": 2, "a": 1}', '{"b": [{"a": 1, "a": 2}]}'):
        with pytest.raises(GivenTwice, match=r"^'a' is given twice in one object$"):
            json.loads(text, object_pairs_hook=once)
