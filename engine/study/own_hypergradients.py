"""The hypergradients of the user's own with which the cells of a study search."""

from collections.abc import Iterable
from typing import Any

from autolora.configs.schema import Autolora, RunConfig
from autolora.configs.search import OwnHypergradient
from autolora.configs.study import word


def own_hypergradients(configs: Iterable[RunConfig]) -> dict[str, OwnHypergradient]:
    """Name -> settings, for each that a run by one of `configs` searches with. The name is the type; if the study has
    a type with several options, the options stand behind it."""
    found: dict[str, list[OwnHypergradient]] = {}
    for config in configs:
        if not isinstance(config, Autolora) or config.answer.from_run is not None:
            continue
        chosen = config.hypergradient
        if isinstance(chosen, OwnHypergradient):
            alike = found.setdefault(chosen.type, [])
            if all(chosen.options != other.options for other in alike):
                alike.append(chosen)
    return {
        compared_name(type_, one.options, several=len(alike) > 1): one
        for type_, alike in found.items()
        for one in alike
    }


def compared_name(type_: str, options: Any, *, several: bool) -> str:
    """How the comparison calls a hypergradient; `several`: whether the study has its type with several options."""
    return f"{type_} {word(options)}" if several else type_
