"""Print the progress of an unfinished run from its files, which another process may be writing."""

from collections.abc import Iterator
from pathlib import Path

from autolora.configs.files import load_config
from autolora.configs.schema import Autolora, LoraGrid, Optuna, RunConfig
from autolora.engine.disk.lock import user_of
from autolora.engine.retrain import checkpoint
from autolora.engine.run.contents import read_trials_file
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.settling import Places
from autolora.engine.terminal.console import console
from autolora.engine.tracking.metrics_file import MetricsFile


def print_progress(folder: RunFolder) -> None:
    """Prints the progress of an unfinished run; nothing for a folder in which no run has begun."""
    for line in progress_lines(folder) if folder.begun else ():
        console.print(line, highlight=False, soft_wrap=True)


def progress_lines(folder: RunFolder) -> Iterator[str]:
    """A line for the unfinished stage, and lines that say whether the run is still running and how it goes on."""
    config = load_config(folder.config)
    overwrites = Places.of(RunFolder.of(config).root).growing == folder.root.resolve()
    user = user_of(RunFolder.of(config).root if overwrites else folder.root)
    if user is None and not overwrites and _only_searched(config, folder):
        yield "the search is finished; --stage retrain trains at its ranks"
        return
    yield from _stage_line(config, folder)
    resumes = "the same command resumes it"
    if user and user.known:
        yield f"still running: {user.name}"
    elif user:
        yield f"{user.name} is running it, or was killed, which cannot be seen from here; if it was, {resumes}"
    else:
        yield f"stopped; {resumes}"


def _only_searched(config: RunConfig, folder: RunFolder) -> bool:
    """Whether the run has chosen its ranks, as with --stage search, and nothing says that its retraining began."""
    later = (folder.metrics, folder.sweep, folder.retrain)
    return bool(config.searches) and folder.ranks.exists() and not any(path.exists() for path in later)


def _stage_line(config: RunConfig, folder: RunFolder) -> Iterator[str]:
    """How far the unfinished stage is; nothing if only the report is missing."""
    if isinstance(config, Autolora) and not folder.ranks.exists():
        yield _search_line(config, folder)
    elif isinstance(config, Optuna | LoraGrid) and not folder.ranks.exists():
        yield _trials_line(config.method, folder.grid, _planned(config))
    elif folder.metrics.exists():
        pass
    elif sweep := _sweep_line(config, folder):
        yield sweep
    else:
        saved = checkpoint.newest_step(folder.retrain)
        yield f"retraining: the newest checkpoint is at step {saved:,}" if saved else "retraining: no checkpoint yet"


def _search_line(config: Autolora, folder: RunFolder) -> str:
    """The last step that the search logged, with its numbers."""
    if folder.search_summary.exists():
        return "search: finished; its answer on D_val is not measured yet"
    lines = MetricsFile(folder.search_metrics).read()
    if not lines:
        return "search: no step is logged yet"
    last = lines[-1]
    numbers = (("L_tr", "train_loss", 3), ("L_val", "val_loss", 3), ("mean rank", "mean_rank", 2))
    told = [f"{what} {last[key]:z.{digits}f}" for what, key, digits in numbers if last.get(key) is not None]
    return "   ".join([f"search: step {last['step']:,} of {config.search.steps:,}", *told])


def _trials_line(name: str, path: Path, planned: int) -> str:
    """How many trials of a choice are finished, and how many are planned."""
    finished = len(read_trials_file(path).get("trials", []))
    return f"{name}: {finished} of {planned} trials are finished"


def _planned(config: Optuna | LoraGrid) -> int:
    """How many trials the choice of ranks takes."""
    if isinstance(config, Optuna):
        return config.lora.trials
    return len(config.lora.grid) ** len(config.lora.target_modules)


def _sweep_line(config: RunConfig, folder: RunFolder) -> str:
    """How far the choice among `retrain.learning_rate` is; "" if the run has fewer than two, or has chosen."""
    rates = config.retrain.rates
    if len(rates) < 2 or config.evaluates_base or "chosen" in read_trials_file(folder.sweep):
        return ""
    return _trials_line("sweep of learning rates", folder.sweep, len(rates))
