"""A signal that comes at a certain step of a training."""

from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest


class StopAt(StopRequest):
    """Says to stop when it is asked for the `step`-th time after a training has begun (which is when config.yaml is
    written); a training asks about once a step."""

    def __init__(self, folder: RunFolder, step: int) -> None:
        super().__init__()
        self.folder, self.left = folder, step

    @property
    def code(self) -> int | None:  # type: ignore[override]
        """SIGTERM's exit code from then on."""
        self.left -= self.folder.config.exists()
        return 143 if self.left <= 0 else None

    @code.setter
    def code(self, value: int | None) -> None:
        """Ignored: `Processes.agree` sets what `code` has just returned."""
