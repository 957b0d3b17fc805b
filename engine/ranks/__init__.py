"""Ranks and their file ranks.json: the rules that choose ranks, the record that holds them, and the
rank map."""

from autolora.engine.ranks.record import (
    LayerRank,
    RankRecord,
    check_against,
    count_parameters,
    load,
    save,
    with_scale,
)

__all__ = [
    "LayerRank",
    "RankRecord",
    "check_against",
    "count_parameters",
    "load",
    "save",
    "with_scale",
]
