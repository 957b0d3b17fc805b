"""Find ranks in ranks.json that were edited by hand after the rule had chosen them."""

from autolora.engine.export.names import ADAPTER_CONFIG, trained_at
from autolora.engine.ranks import RankRecord
from autolora.engine.ranks.grid import short_names
from autolora.engine.run.contents import read_answer
from autolora.engine.run.folder import RunFolder

_NAMED = 5


def edited_from(record: RankRecord | None, folder: RunFolder) -> dict[str, int]:
    """The edited layers: name -> the rank that the rule chose; empty if no search of this run has chosen ranks.

    A layer that is missing in ranks.json, or among the ranks that the rule chose, counts as rank 0 there."""
    chosen = read_answer(folder.answer).get("ranks", {})
    if record is None or not chosen:
        return {}
    now = record.ranks
    return {name: chosen.get(name, 0) for name in {**now, **chosen} if chosen.get(name, 0) != now.get(name, 0)}


def edit_words(record: RankRecord | None, folder: RunFolder) -> str:
    """Names the ranks that were edited by hand, and says if the adapter has other ranks; "" if none was edited."""
    edited = edited_from(record, folder)
    if record is None or not edited:
        return ""
    now = record.ranks
    names = list({**now, **edited})
    short = dict(zip(names, short_names(names), strict=True))
    told = [f"{short[name]} {now.get(name, 0)} (was {rank})" for name, rank in edited.items()]
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    ranks = "1 rank was" if len(told) == 1 else f"{len(told)} ranks were"
    words = f"{ranks} edited by hand: {', '.join(told[:_NAMED])}{more}"
    if not (folder.adapter / ADAPTER_CONFIG).exists() or trained_at(record, folder):
        return words
    return f"{words}; the adapter and the result have other ranks: --stage retrain --overwrite trains at these"
