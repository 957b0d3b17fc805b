"""The hypergradients of the user's own with which the cells of a study search."""

from collections.abc import Iterable
from typing import Any, NamedTuple

from autolora.configs.own_class import is_own
from autolora.configs.schema import RunConfig
from autolora.engine.study.values import word


class Chosen(NamedTuple):
    """hypergradient.type (FILE.py:CLASS) and hypergradient.options."""

    type: str
    options: dict[str, Any]


def own_hypergradients(configs: Iterable[RunConfig]) -> dict[str, Chosen]:
    """Name -> type and options, for each that a run by one of `configs` searches with. The name is the type; if the
    study has a type with several options, the options stand behind it."""
    found: dict[str, list[dict[str, Any]]] = {}
    for config in configs:
        chosen = config.hypergradient
        if config.method == "autolora" and config.answer.from_run is None and is_own(chosen.type):
            options = found.setdefault(chosen.type, [])
            if chosen.options not in options:
                options.append(chosen.options)
    return {
        compared_name(type_, one, several=len(options) > 1): Chosen(type_, one)
        for type_, options in found.items()
        for one in options
    }


def compared_name(type_: str, options: Any, *, several: bool) -> str:
    """How the comparison calls a hypergradient; `several`: whether the study has its type with several options."""
    return f"{type_} {word(options)}" if several else type_
