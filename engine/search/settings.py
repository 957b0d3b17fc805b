"""Which keys change what a search finds, and the refusal to mix two searches."""

from engine.disk import checkpoint
from engine.disk.files import read_json
from engine.run.opening import Asked
from engine.run.resuming import Settings

_READ = (
    "method", "seed", "precision", "model", "task", "lora.target_modules", "lora.modules_to_save", "lora.k",
    "lora.lora_alpha", "lora.dropout", "search", "hypergradient",
)  # fmt: skip
# What is measured after the training, when to save and when to give up change no alpha.
_BUT = ("task.metrics", "task.evaluation_rows", "search.checkpoint_every", "search.max_bad_steps")

SEARCHED = Settings(_READ, _BUT)
"""Of a finished search: ranks that were found on one device serve a retraining on another."""
SEARCHING = Settings((*_READ, "device"), _BUT)
"""Of an unfinished search: the random states in its checkpoint are the device's own."""


def refuse_changed_search(asked: Asked) -> None:
    """Refuses to resume a search under a setting that would change it, and to retrain another search's ranks."""
    folder, config = asked.folder, asked.config
    if asked.stage == "report" or asked.stands(folder.metrics):
        return
    if asked.stands(folder.search) and not asked.stands(folder.ranks):
        recorded = checkpoint.peek(folder.search_checkpoint).get("settings", {})
        SEARCHING.refuse_changed(recorded, config, f"{folder.root} holds a half-done run with")
    if asked.stage == "all" and asked.stands(folder.search_summary) and asked.stands(folder.ranks):
        SEARCHED.refuse_changed(
            read_json(folder.search_summary).get("settings", {}),
            config,
            f"{folder.root} holds ranks that were chosen with",
            "give the old value, --stage retrain to take those ranks as they are, --name for another run, or "
            "--overwrite to start again",
        )
