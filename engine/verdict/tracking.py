"""Send a verdict to the tracker, into the run whose ranks it judges; docs/wandb.md describes what is sent."""

from collections.abc import Mapping
from pathlib import Path

from autolora.configs.schema import RunConfig
from autolora.engine.run.contents import read_verdict
from autolora.engine.run.folder import RunFolder
from autolora.engine.tracking import tracker_of

SENT = ("ending", "sentence", "pairs", "difference", "p", "gain", "gain_standard_error")
"""The keys of verdict.json that the summary of the wandb run gets."""


def track_verdict(config: RunConfig, folder: RunFolder, pictures: Mapping[str, Path]) -> None:
    """Sends the verdict and its picture, if it has one."""
    found = read_verdict(folder.verdict_summary)
    with tracker_of(config, folder.root) as tracker:
        if "verdict" in pictures:
            tracker.image("figures/verdict", pictures["verdict"])
        tracker.finish({f"verdict/{key}": found[key] for key in SENT if found.get(key) is not None})
