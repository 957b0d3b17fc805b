"""Ranks that someone has changed since the rule chose them."""

from engine.ranks import RankRecord
from engine.ranks.grid import short_names
from engine.run.contents import read_answer
from engine.run.folder import RunFolder

_NAMED = 5


def edited_from(record: RankRecord | None, folder: RunFolder) -> dict[str, int]:
    """Name -> rank that the rule chose, of every layer that has another rank in ranks.json; a layer that one of the
    two does not name counts as rank 0. Empty where no search of this run has chosen ranks."""
    chosen = read_answer(folder.answer).get("ranks", {})
    if record is None or not chosen:
        return {}
    now = {x.name: x.rank for x in record.layers}
    return {name: chosen.get(name, 0) for name in {**now, **chosen} if chosen.get(name, 0) != now.get(name, 0)}


def edit_words(record: RankRecord | None, folder: RunFolder) -> str:
    """Which ranks were edited by hand, for a person; "" where none was."""
    edited = edited_from(record, folder)
    if record is None or not edited:
        return ""
    now = {x.name: x.rank for x in record.layers}
    names = list({**now, **edited})
    short = dict(zip(names, short_names(names), strict=True))
    told = [f"{short[name]} {now.get(name, 0)} (was {rank})" for name, rank in edited.items()]
    more = f" and {len(told) - _NAMED} more" if len(told) > _NAMED else ""
    ranks = "1 rank was" if len(told) == 1 else f"{len(told)} ranks were"
    return f"{ranks} edited by hand: {', '.join(told[:_NAMED])}{more}"
