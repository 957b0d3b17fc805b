"""Send the curves of a run to wandb while it trains, and write metrics.jsonl."""

from collections.abc import Sequence
from pathlib import Path

from autolora.configs.schema import Autolora, RunConfig
from autolora.engine.tracking.tracker import NOWHERE, Tracker
from autolora.engine.tracking.wandb_run import Wandb

__all__ = ["NOWHERE", "Tracker", "open_tracker", "tracker_of"]


def tracker_of(config: RunConfig, folder: Path) -> Tracker:
    """The tracker of one run, in `folder`. Its job, by which wandb groups runs, is the method and, for autolora, the
    hypergradient: the other methods that search ranks have none."""
    approximation = [config.hypergradient.type] if isinstance(config, Autolora) else []
    tags = [config.task.result_name, config.method, f"seed {config.seed}", *approximation]
    return open_tracker(config, folder, job="/".join([config.method, *approximation]), tags=tags)


def open_tracker(config: RunConfig, folder: Path, *, job: str, tags: Sequence[str]) -> Tracker:
    """The tracker that sends the curves of the run in `folder` to wandb, unless tracking.wandb is disabled.

    `job`, `tags`: labels by which runs can be grouped and filtered. Raises UserError if wandb is to be online and
    there is no API key.
    """
    return Wandb(config, folder, job=job, tags=tags)
