"""`--workspace runs/x`: save a view in wandb with panels of the search, the answer and the retraining, and plots of
each layer's curves."""

import re
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.configs.schema import Autolora
from autolora.engine import ranks
from autolora.engine.run.folder import RunFolder
from autolora.engine.terminal.console import console
from autolora.engine.tracking.tracker import sent_to, wandb_settings
from autolora.problems.models.names import key_names


def save_workspace(root: Path) -> None:
    """Creates the view in the wandb project to which the run was sent. Raises UserError if the run has no finished
    search, and wandb's own errors: it refuses without an API key."""
    folder = RunFolder(root)
    if not folder.trajectory.exists() or not folder.config.exists():
        raise UserError(f"--workspace: {root} holds no finished search; give the folder of a run, as runs/quickstart")
    config = load_config(folder.config)
    layers = key_names(list(ranks.load(folder.ranks).ranks))
    by_threshold = isinstance(config, Autolora) and config.answer.rule == "threshold"
    import wandb
    import wandb_workspaces.workspaces as ws

    own = sent_to(root) or wandb_settings()
    project = config.tracking.project or own.project or "autolora"
    entity = config.tracking.entity or own.entity or wandb.Api(timeout=20).default_entity
    saved = build(ws, str(entity), project, layers, by_threshold=by_threshold).save()
    console.print(f"workspace  {saved.url}")


def build(ws: Any, entity: str, project: str, layers: list[str], *, by_threshold: bool) -> Any:
    """The view, not yet saved; `ws` is the module wandb_workspaces.workspaces. `by_threshold`: whether the search has
    ranks at every step; by other rules they are known at its end alone."""
    from wandb_workspaces.reports.v2 import LinePlot, MediaBrowser

    def plot(title: str, *metrics: str, **options: Any) -> Any:
        return LinePlot(title=title, y=list(metrics), **{"x": "search/step"} | options)

    def each(kind: str) -> list[Any]:
        return [plot(x, metric_regex=f"^{kind}/{re.escape(x)}/[0-9]+$", max_runs_to_show=1) for x in layers]

    numbers = ("mean_rank", "mean_entropy", "implicit_to_direct", "cosine", "seconds")
    found = [f"figures/{name}" for name in ("ranks", "curve", "shares", "verdict")]
    over_search = [
        MediaBrowser(title="ranks over the search", media_keys=["search/rank_map"]),
        plot("rank of every layer", metric_regex="^rank/.*$"),
    ]
    sections = {
        "Search": [
            plot("losses", "search/train_loss", "search/val_loss"),
            *(plot(name.replace("_", " "), f"search/{name}") for name in numbers[not by_threshold :]),
        ],
        "Ranks": [
            MediaBrowser(title="the ranks found, and why", media_keys=found),
            *(over_search if by_threshold else []),
            plot("entropy of alpha of every layer", metric_regex="^entropy/.*$"),
        ],
        "Retraining": [
            plot("training loss", "retrain/loss", x="retrain/step"),
            plot("learning rate", "retrain/learning_rate", x="retrain/step"),
        ],
        "alpha of each layer": each("alpha"),
        "contribution of each layer": each("contribution"),
    }
    panels = [ws.Section(name=name, panels=of, is_open="each layer" not in name) for name, of in sections.items()]
    return ws.Workspace(entity=entity, project=project, name="AutoLoRA", sections=panels)
