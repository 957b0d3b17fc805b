"""Where everything of a verdict lies."""

from dataclasses import dataclass
from pathlib import Path

from engine.disk.paths import At


@dataclass(frozen=True)
class VerdictFolder:
    """Paths inside runs/<name>/verdict/."""

    root: Path

    ranks = At("ranks.json")
    """The learned ranks as they were when the first pair began."""
    plan = At("plan.json")
    """How many pairs were planned before the first one."""
    data = At("data.json")
    """The fingerprint of the rows that the first pair was trained and judged on."""
    cells = At("cells", folder=True)
