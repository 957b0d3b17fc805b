"""The table of the built-in hypergradients is true of the registry; test_unread.py checks which keys they read."""

from typing import get_args

import pytest

from autolora.configs.hypergradients import BUILT_IN, BuiltIn
from autolora.problems.hypergradients import HYPERGRADIENTS, NONE

pytestmark = pytest.mark.unit


def test_the_table_has_the_hypergradients_of_the_registry() -> None:
    registry = {**HYPERGRADIENTS, NONE.name: NONE}
    assert {name: (facts.second_order, facts.reads_steps) for name, facts in BUILT_IN.items()} == {
        name: (method.second_order, method.reads_steps) for name, method in registry.items()
    }
    assert get_args(BuiltIn) == tuple(BUILT_IN)
    assert NONE.name not in HYPERGRADIENTS, "it is compared with nothing"
