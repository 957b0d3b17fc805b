"""The interface between a run and its search: both kinds of run keep it whole."""

import inspect
from typing import Any

import pytest

from autolora.engine.run.context import Context
from autolora.engine.run.given import ScriptBench
from autolora.engine.run.workbench import Workbench

READ: frozenset[str] = Workbench.__abstractmethods__


@pytest.mark.parametrize("kind", [Context, ScriptBench])
def test_both_kinds_of_run_offer_all_of_it(kind: type[Workbench]) -> None:
    assert not inspect.isabstract(kind)


@pytest.mark.parametrize("kind", [Context, ScriptBench])
def test_methods_are_called_in_the_same_way(kind: type[Workbench]) -> None:
    for name in READ:
        declared, made = getattr(Workbench, name), getattr(kind, name)
        if inspect.isfunction(declared):
            assert list(inspect.signature(made).parameters) == list(inspect.signature(declared).parameters), name
        else:
            assert not inspect.isfunction(made), name


@pytest.mark.parametrize("left_out", sorted(READ))
def test_a_run_that_lacks_a_part_cannot_be_made(left_out: str) -> None:
    parts: dict[str, Any] = {name: None for name in READ if name != left_out}
    with pytest.raises(TypeError, match=left_out):
        type("Half", (Workbench,), parts)()
