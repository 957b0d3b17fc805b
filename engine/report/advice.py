"""What a verdict recommends, as it is now: verdict.json has it as it was when the verdict ended."""

from collections.abc import Mapping
from typing import Any

from engine import ranks
from engine.export.names import trained_at, trained_words
from engine.run.folder import RunFolder


def advice_of(found: Mapping[str, Any], folder: RunFolder) -> str:
    """What to do after a verdict. verdict.json says it as it was then; since then the run may have been trained at
    these ranks, or its ranks edited."""
    judged = folder.verdict / folder.ranks.name
    if not folder.ranks.exists() or not judged.exists():
        return str(found["recommendation"])
    record = ranks.load(folder.ranks)
    if ranks.load(judged).kept != record.kept:
        return (
            f"This verdict is about other ranks than those that {folder.ranks} has now; --stage verdict --overwrite "
            f"judges these."
        )
    done = found["ending"] == "matter" and trained_at(record, folder)
    return trained_words(folder) if done else str(found["recommendation"])
