"""The keys that change what a search finds; refuse to resume or reuse a search if one of them has changed."""

from autolora.engine.disk import checkpoint
from autolora.engine.run.asked import Asked
from autolora.engine.run.contents import read_searched
from autolora.engine.run.resuming import Settings

# Compared only for an unfinished search: with rule threshold, and no other, settled ranks end the search early.
_ENDS = ("answer.rule",)

_READ = ("method", "seed", "precision", "model", "task", "lora", "search", "hypergradient")

FOUND = Settings(_READ)
"""Compared before a finished search is used. `device` may differ: ranks found on one can be retrained on another."""
UNFINISHED = Settings((*_READ, *_ENDS, "device"))
"""Compared before a search resumes. `device` may not differ, as another one rounds in another way.

`auto` is compared as a word here. What it stands for is stored in the checkpoint, too, and a search that resumes on
another kind of device or in another precision logs a warning (engine/run/same_machine.py)."""


def refuse_changed_search(asked: Asked) -> None:
    """Refuses to resume an unfinished search, or to use a finished one, under settings that would have changed it."""
    folder, config = asked.folder, asked.config
    if asked.stage == "report" or (asked.stage != "search" and folder.metrics.exists()):
        return
    if folder.search.exists() and not folder.search_summary.exists() and not folder.ranks.exists():
        recorded = checkpoint.peek(folder.search_checkpoint).get("settings", {})
        UNFINISHED.refuse_changed(recorded, config, f"{folder.root} holds a half-done run with")
    if asked.stage in ("all", "search") and folder.search_summary.exists():
        FOUND.refuse_changed(
            read_searched(folder.search_summary).get("settings", {}),
            config,
            f"{folder.root} holds a search that was made with",
            "give the old value, --stage retrain to take its ranks as they are, --name for another run, or "
            "--overwrite to start again",
        )
