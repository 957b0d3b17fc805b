"""Send the curves of a run to wandb while it trains, and write metrics.jsonl."""

from autolora.engine.tracking.tracker import NOWHERE, Tracker, tracker_of

__all__ = ["NOWHERE", "Tracker", "tracker_of"]
