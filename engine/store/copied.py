"""The search of another run, taken over (measure.from)."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from autolora.engine.disk.files import replacing
from autolora.engine.store.folder import RunFolder
from autolora.engine.world import World


@dataclass(frozen=True)
class CopiedSearch:
    """The finished search and measurement of another run."""

    source: RunFolder

    def save(self, root: Path) -> None:
        """Copies them, so that the run no longer reads the other one; the search's summary last, as
        it marks the search as finished."""
        here = RunFolder(root)
        for name in (
            "trajectory",
            "search_metrics",
            "search_weights",
            "search_numbers",
            "measurement",
            "measured",
            "search_summary",
        ):
            there: Path = getattr(self.source, name)
            if there.exists():
                with replacing(getattr(here, name)) as place:
                    shutil.copyfile(there, place)


def copy_search(source: RunFolder, world: World) -> CopiedSearch:
    """Takes over the search that `measure.from` names."""
    world.begin()
    return CopiedSearch(source)
