"""Which hypergradients of the user's own the cells of a study search with, and what they are called."""

from typing import Any

from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine.study.own_hypergradients import compared_name, own_hypergradients


def config(type_: str, options: dict[str, Any] | None = None, **others: Any) -> RunConfig:
    values = {"hypergradient.type": type_, "hypergradient.options": options or {}}
    return with_values(RunConfig(name="a"), values | others)


def test_each_type_and_options_once_and_only_where_something_is_searched() -> None:
    found = own_hypergradients(
        [
            config("darts"),
            config("a.py:Mine"),
            config("a.py:Mine", seed=1),
            config("b.py:Mine", {"rate": 0.1}),
            config("b.py:Mine", {"rate": 0.2}),
            config("c.py:Mine", method="lora"),
            config("d.py:Mine", **{"answer.from": "runs/a"}),
        ]
    )
    assert found == {
        "a.py:Mine": ("a.py:Mine", {}),
        "b.py:Mine {rate: 0.1}": ("b.py:Mine", {"rate": 0.1}),
        "b.py:Mine {rate: 0.2}": ("b.py:Mine", {"rate": 0.2}),
    }


def test_the_name_in_a_report_is_that_of_the_comparison() -> None:
    assert compared_name("a.py:Mine", "{rate: 0.1}", several=True) == "a.py:Mine {rate: 0.1}"
    assert compared_name("a.py:Mine", {"rate": 0.1}, several=False) == "a.py:Mine"
