"""alpha to ranks.json: the rules, the record, its file, the controls, and where a layer lies in its model."""

from engine.ranks.parsing import load
from engine.ranks.record import LayerRank, RankRecord, check_against, count_parameters, of_run, save

__all__ = ["LayerRank", "RankRecord", "check_against", "count_parameters", "load", "of_run", "save"]
