"""What a verdict recommends, as it is now: verdict.json has it as it was when the verdict ended."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.configs.launch import PLAIN, as_started
from autolora.engine import ranks
from autolora.engine.export.names import trained_at, trained_words
from autolora.engine.run.folder import RunFolder

DOES_NOTHING = "LoRA does nothing for these rows"
"""How the recommendation begins if no gain of LoRA is sure."""
FURTHER_PAIRS = "The same command trains further pairs"
"""How the recommendation begins if more pairs may decide what those that are trained do not."""


def advice_of(found: Mapping[str, Any], folder: RunFolder) -> str:
    """What to do after a verdict. verdict.json says it as it was then; since then the run may have been trained at
    these ranks, or its ranks edited."""
    if about_other_ranks(folder):
        return (
            f"This verdict is about other ranks than those that {folder.ranks} has now; --stage verdict --overwrite "
            f"judges these."
        )
    judged = _judged(folder).exists() and folder.ranks.exists()
    done = judged and found["ending"] == "matter" and trained_at(ranks.load(folder.ranks), folder)
    return trained_words(folder) if done else str(found["recommendation"])


def about_other_ranks(folder: RunFolder) -> bool:
    """Whether the ranks have been edited since the verdict judged them."""
    judged = _judged(folder)
    if not folder.ranks.exists() or not judged.exists():
        return False
    return ranks.load(judged).kept != ranks.load(folder.ranks).kept


def _judged(folder: RunFolder) -> Path:
    """The ranks that the verdict is about."""
    return folder.verdict / folder.ranks.name


def told_and_command(line: str) -> tuple[str, str]:
    """A line without the command at its end, and that command as the reader starts the program; "" if it has none."""
    told, found, options = line.partition(f": {PLAIN} ")
    return (f"{told}:", as_started(f"{PLAIN} {options}")) if found else (line, "")
