"""The table of the methods: it has every method, and its keys are those of the schema."""

from typing import get_args

from autolora.configs.keys import known_keys
from autolora.configs.methods import FACTS, READ_BY_SOME, readers
from autolora.configs.schema import MethodName


def test_the_table_has_every_method() -> None:
    assert set(FACTS) == set(get_args(MethodName))


def test_it_names_keys_and_sections_of_the_schema() -> None:
    known = known_keys()
    assert all(name in known or any(key.startswith(f"{name}.") for key in known) for name in READ_BY_SOME)
    assert readers("lora.draw") == ["lora_shuffled", "lora_random"]
