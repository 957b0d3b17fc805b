"""Send the curves of a run to wandb while it trains, and write metrics.jsonl."""

from autolora.engine.tracking.tracker import Tracker, tracker_of

__all__ = ["Tracker", "tracker_of"]
