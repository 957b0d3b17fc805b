"""Where everything of a verdict lies."""

from dataclasses import dataclass
from pathlib import Path

from autolora.engine.disk.paths import At


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

    @property
    def discarded(self) -> Path:
        """Where the trainings of an overwritten verdict lie while they are removed. Their folder is renamed first, so
        that a command that is killed meanwhile leaves none of them without the ranks and the plan that they had."""
        return self.root.with_name(f".{self.root.name}.tmp")
