"""Which keys change what a search finds, and the refusal to mix two searches."""

from engine.disk import newest
from engine.run.contents import read_searched
from engine.run.opening import Asked
from engine.run.resuming import Settings

_READ = (
    "method", "seed", "precision", "model", "task", "lora.target_modules", "lora.modules_to_save", "lora.k",
    "lora.lora_alpha", "lora.dropout", "search", "hypergradient",
)  # fmt: skip
# Metrics, samples, intervals of checkpoints, the limit of skipped steps and what is computed again change no alpha.
_BUT = (
    "task.metrics", "task.samples", "task.evaluation_rows", "search.checkpoint_every", "search.max_bad_steps",
    "model.gradient_checkpointing",
)  # fmt: skip

# Which rule makes the ranks decides whether a search may end when those by threshold have settled.
_ENDS = ("answer.rule",)

FOUND = Settings(_READ, _BUT)
"""Compared for a finished search; without `device`, as ranks found on one device can be retrained on another."""
UNFINISHED = Settings((*_READ, *_ENDS, "device"), _BUT)
"""Compared before a search resumes; with `device`, as a checkpoint's random states belong to one kind of device."""


def refuse_changed_search(asked: Asked) -> None:
    """Refuses to resume a search under a setting that would change it, and to retrain another search's ranks."""
    folder, config = asked.folder, asked.config
    if asked.stage == "report" or (asked.stage != "search" and folder.metrics.exists()):
        return
    if folder.search.exists() and not folder.search_summary.exists() and not folder.ranks.exists():
        recorded = newest.peek(folder.search_checkpoint).get("settings")
        recorded = recorded if isinstance(recorded, dict) else {}  # a damaged checkpoint is told when it is loaded
        UNFINISHED.refuse_changed(recorded, config, f"{folder.root} holds a half-done run with")
    if asked.stage in ("all", "search") and folder.search_summary.exists():
        FOUND.refuse_changed(
            read_searched(folder.search_summary).get("settings", {}),
            config,
            f"{folder.root} holds a search that was made with",
            "give the old value, --stage retrain to take its ranks as they are, --name for another run, or "
            "--overwrite to start again",
        )
