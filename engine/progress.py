"""Print the progress of an unfinished run from its files, which another process may be writing."""

from autolora.configs.files import load_config
from autolora.configs.schema import Autolora, RunConfig
from autolora.engine.disk.lock import user_of
from autolora.engine.retrain import checkpoint
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.opening import Places
from autolora.engine.run.records import read_trials_file
from autolora.engine.terminal.console import console
from autolora.engine.tracking.metrics_file import MetricsFile


def print_progress(folder: RunFolder) -> None:
    """Prints how far the unfinished stage is, and whether a process is still at it; nothing for a folder in which no
    run has begun."""
    if not folder.begun:
        return
    config = load_config(folder.config)
    console.print(_stage_line(config, folder))
    named = RunFolder.of(config).root
    user = user_of(named if Places.of(named).growing == folder.root.resolve() else folder.root)
    if user and user.known:
        console.print(f"still running: {user.name}")
    else:
        at_work = f"{user.name} may be running it; if not, " if user else "stopped; "
        console.print(f"{at_work}the same command resumes it")


def _stage_line(config: RunConfig, folder: RunFolder) -> str:
    for path in (folder.grid_trials, folder.sweep_trials):
        trials = read_trials_file(path)
        if trials and "chosen" not in trials:
            return f"{path.parent.name}: {len(trials.get('trials', []))} trials are finished"
    if folder.metrics.exists():
        return "retraining: finished; the report is missing"
    if not isinstance(config, Autolora) or folder.ranks.exists():
        return f"retraining: the newest checkpoint is at step {checkpoint.newest(folder.retrain) or 0:,}"
    if folder.search_summary.exists():
        return "search: finished; its answer on D_val is not measured yet"
    lines = MetricsFile(folder.search_metrics).read()
    if not lines:
        return "search: no step is logged yet"
    last = lines[-1]
    numbers = (("L_tr", "train_loss", 3), ("L_val", "val_loss", 3), ("mean rank", "mean_rank", 2))
    told = [f"{what} {last[key]:z.{digits}f}" for what, key, digits in numbers if last.get(key) is not None]
    return "   ".join([f"search: step {last['step']:,} of {config.search.steps:,}", *told])
