"""What lies in the folder of a run."""

from engine.run.folder import RunFolder


def names(folder: RunFolder) -> set[str]:
    """The names of the files and folders at its top."""
    return {path.name for path in folder.root.iterdir()}


WHOLE = {"config.yaml", "search", "ranks.json", "adapter", "metrics.json", "report.html", "figures"}
