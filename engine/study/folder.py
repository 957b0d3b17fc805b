"""Where everything of a study lies, and what is told of it."""

from autolora.configs.files import load_config
from autolora.engine.store.folder import RunFolder, at
from autolora.engine.terminal.console import console


class StudyFolder(RunFolder):
    """Paths of a study: runs/<name>/ with a run folder for each cell."""

    cells = at("cells")
    results = at("results.parquet")
    table = at("table.md")


def print_study(folder: StudyFolder) -> None:
    """Prints how many cells have finished, the table, and the paths of the files."""
    finished = sum(".old-" not in path.parent.name for path in folder.cells.glob("*/metrics.json"))
    planned = (
        f" of {len(load_config(folder.config).studied.places)}" if folder.config.exists() else ""
    )
    console.print(f"{finished}{planned} cells have finished")
    if folder.table.exists():
        console.print(folder.table.read_text(encoding="utf-8"))
        for path in (folder.table, folder.results, folder.report):
            console.print(f"  {path}")
