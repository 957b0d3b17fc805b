"""The keys that change the answer to a finished search; refuse to reuse ranks if one of them has changed."""

from autolora.configs.schema import Autolora
from autolora.configs.section import MEASURE
from autolora.engine.run.asked import Asked
from autolora.engine.run.contents import read_answer
from autolora.engine.run.resuming import Settings

ANSWERED = Settings(("answer",))
"""Compared before an existing ranks.json is used."""
COPIED = Settings(("answer",), marks=(MEASURE,))
"""The same with answer.from, which copies what another run has measured."""


def refuse_changed_answer(asked: Asked) -> None:
    """Refuses to use existing ranks that were chosen with another rule, budget, tolerance or number of rows, or from
    another run's search."""
    folder, config = asked.folder, asked.config
    if asked.stage not in ("all", "search") or folder.metrics.exists() or not folder.ranks.exists():
        return
    copies = isinstance(config, Autolora) and config.answer.from_run is not None
    (COPIED if copies else ANSWERED).refuse_changed(
        read_answer(folder.answer).get("settings", {}),
        config,
        f"{folder.root} holds ranks that were chosen with",
        f"give the old value, --stage retrain to take those ranks as they are, --overwrite to start again, or --name "
        f"with --answer.from {folder.root} for another answer from the same search",
    )
