"""Send the curves of a run to wandb while it trains, and write metrics.jsonl."""

from pathlib import Path

from autolora.configs.schema import Autolora, RunConfig
from autolora.engine.tracking.tracker import NOWHERE, Tracker, begin

__all__ = ["NOWHERE", "Tracker", "tracker_of"]


def tracker_of(config: RunConfig, folder: Path) -> Tracker:
    """The tracker of one run, in `folder`. Its job, by which wandb groups runs, is the method and, for autolora, the
    hypergradient: the other methods that search ranks have none. Raises UserError if wandb is to be online and there
    is no API key."""
    approximation = [config.hypergradient.type] if isinstance(config, Autolora) else []
    tags = [config.task.result_name, config.method, f"seed {config.seed}", *approximation]
    return begin(config, folder, "/".join([config.method, *approximation]), tags)
