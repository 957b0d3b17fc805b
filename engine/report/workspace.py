"""`--workspace runs/x`: save a view in wandb with panels of the search, the ranks and the
retraining, and plots of each layer's curves."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.engine import ranks
from autolora.engine.store.folder import RunFolder
from autolora.engine.terminal.console import console
from autolora.engine.tracking.tracker import sent_to, wandb_settings
from autolora.problems.models.names import key_names


def save_workspace(root: Path) -> None:
    """Creates the view in the wandb project to which the run was sent. Raises UserError if the run
    has no finished search, and wandb's own errors: it refuses without an API key."""
    folder = RunFolder(root)
    if not folder.trajectory.exists() or not folder.config.exists():
        raise UserError(
            f"--workspace: {root} holds no finished search; give the folder of a run, as "
            "runs/quickstart"
        )
    tracking = load_config(folder.config).tracking
    layers = key_names(list(ranks.load(folder.ranks).ranks))
    import wandb
    import wandb_workspaces.workspaces as ws

    own = sent_to(root) or wandb_settings()
    project = tracking.project or own.project or "autolora"
    entity = tracking.entity or own.entity or wandb.Api(timeout=20).default_entity
    panels = [
        ws.Section(name=name, panels=of, is_open="each layer" not in name)
        for name, of in sections(layers).items()
    ]
    saved = ws.Workspace(
        entity=str(entity), project=project, name="AutoLoRA", sections=panels
    ).save()
    console.print(f"workspace  {saved.url}")


def sections(layers: Sequence[str]) -> dict[str, list[Any]]:
    """Title -> its panels. `layers`: their names as keys of wandb."""
    from wandb_workspaces.reports.v2 import LinePlot, MediaBrowser

    def plot(title: str, *metrics: str, **options: Any) -> Any:
        return LinePlot(title=title, y=list(metrics), **{"x": "search/step"} | options)

    def each(kind: str) -> list[Any]:
        return [
            plot(x, metric_regex=f"^{kind}/{re.escape(x)}/[0-9]+$", max_runs_to_show=1)
            for x in layers
        ]

    numbers = ("mean_rank", "mean_entropy", "implicit_to_direct", "cosine", "seconds")
    found = [f"figures/{name}" for name in ("ranks", "curve", "shares", "verdict")]
    return {
        "Search": [
            plot("losses", "search/train_loss", "search/val_loss"),
            *(plot(name.replace("_", " "), f"search/{name}") for name in numbers),
        ],
        "Ranks": [
            MediaBrowser(title="the ranks found, and why", media_keys=found),
            MediaBrowser(title="ranks over the search", media_keys=["search/rank_map"]),
            plot("rank of every layer", metric_regex="^rank/.*$"),
            plot("entropy of alpha of every layer", metric_regex="^entropy/.*$"),
        ],
        "Retraining": [
            plot("training loss", "retrain/loss", x="retrain/step"),
            plot("learning rate", "retrain/learning_rate", x="retrain/step"),
        ],
        "alpha of each layer": each("alpha"),
        "contribution of each layer": each("contribution"),
    }
