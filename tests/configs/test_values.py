"""Configurations from values by their keys."""

import pytest

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.configs.schema import RunConfig
from autolora.configs.values import accepted, from_tree, with_values


def test_with_values_is_the_command_line_for_programs() -> None:
    config = parse([]).config
    changed = with_values(config, {"search.steps": 7, "hypergradient.eta": "lr", "lora.target_modules": ["a"]})
    assert (changed.search.steps, changed.hypergradient.eta, changed.lora.target_modules) == (7, "lr", ["a"])
    assert changed.search.learning_rate == config.search.learning_rate
    assert isinstance(changed, RunConfig)
    assert with_values(config, {}) == config
    for values, message in (
        ({"search.setps": 7}, "did you mean 'search.steps'"),
        ({"search.steps": 0}, "--search.steps: 0 is not allowed"),
        ({"search.steps": "x"}, "--search.steps"),
    ):
        with pytest.raises(UserError, match=message):
            with_values(config, values)


def test_a_section_is_no_key_and_null_is_no_way_to_ask_for_the_default() -> None:
    with pytest.raises(UserError, match=r"^unknown key 'lora'"):
        with_values(RunConfig(name="a"), {"lora": {"k": 3}})
    with pytest.raises(UserError, match=r"^--lora\.k: null is not allowed; allowed: a whole number$"):
        with_values(RunConfig(name="a"), {"lora.k": None})
    assert with_values(RunConfig(name="a"), {"task.train_rows": None}).task.train_rows is None


def test_a_tree_has_a_name_of_its_own_or_the_given_one() -> None:
    assert from_tree({"seed": 3}, {}, "a") == RunConfig(name="a", seed=3)
    assert from_tree({"name": "b", "lora": {"k": 2}}, {"lora.k": 3}, "a").name == "b"
    with pytest.raises(UserError, match=r"^--name: null is not allowed; allowed: letters"):
        from_tree({}, {})


def test_settings_that_a_configuration_does_not_take_are_no_error() -> None:
    config = parse(["--hypergradient.type", "exact"]).config
    assert accepted(config, {"search.steps": 5})
    assert not accepted(config, {"search.steps": -5})
    assert not accepted(config, {"model.gradient_checkpointing": True})
