"""What lies in the folder of a run."""

from pathlib import Path

from autolora.engine.run.folder import RunFolder


def names(folder: RunFolder) -> set[str]:
    """The names of the files and folders at its top."""
    return {path.name for path in folder.root.iterdir()}


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content, and every folder; what is hidden, too."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in folder.rglob("*")}


WHOLE = {
    "config.yaml",
    "search",
    "ranks.json",
    "lora_config",
    "adapter",
    "metrics.json",
    "retrain_metrics.jsonl",
    "report.html",
    "log.txt",
    "predictions.csv",
    "figures",
}
