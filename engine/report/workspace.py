"""`--workspace runs/x`: save a view in wandb with panels of the search, the answer and the retraining, and plots of
each layer's curves."""

import re
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.configs.schema import Autolora
from autolora.engine import ranks
from autolora.engine.ranks.grid import key_names
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.run.opening import settle_if_free
from autolora.engine.terminal.console import console
from autolora.engine.tracking.login import wandb_settings
from autolora.engine.tracking.wandb_run import sent_to


def save_workspace(root: Path) -> None:
    """Creates the view in the wandb project to which the run was sent.

    Raises UserError if the run has no finished search, wandb-workspaces is not installed, or wandb refuses, which it
    does without an API key.
    """
    folder = RunFolder(root)
    settle_if_free(root)
    if not folder.trajectory.exists() or not folder.config.exists():
        raise UserError(f"--workspace: {root} holds no finished search; give the folder of a run, as runs/quickstart")
    config = load_config(folder.config)
    layers = key_names(list(ranks.load(folder.ranks).ranks))
    by_threshold = isinstance(config, Autolora) and config.answer.rule == "threshold"
    try:
        import wandb
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError("--workspace: needs one more package; run: uv pip install wandb-workspaces") from error
    sent, own = sent_to(root), wandb_settings()
    try:
        project = config.tracking.project or (sent.project if sent else own.project or "autolora")
        entity = (
            config.tracking.entity or (sent.entity if sent else own.entity) or wandb.Api(timeout=20).default_entity
        )
        saved = build(ws, str(entity), project, layers, by_threshold=by_threshold).save()
    except Interrupted:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise UserError(f"--workspace: wandb refused or did not answer ({reason})") from error
    console.print(f"workspace  {saved.url}")


def build(ws: Any, entity: str, project: str, layers: list[str], *, by_threshold: bool) -> Any:
    """The view, not yet saved; `ws` is the module wandb_workspaces.workspaces. `by_threshold`: whether the search has
    ranks at every step; by other rules they are known at its end alone."""
    from wandb_workspaces.reports.v2 import LinePlot, MediaBrowser

    def plot(title: str, *metrics: str, **options: Any) -> Any:
        return LinePlot(title=title, y=list(metrics), **{"x": "search/step"} | options)

    def each(kind: str) -> list[Any]:
        return [plot(x, metric_regex=f"^{kind}/{re.escape(x)}/[0-9]+$", max_runs_to_show=1) for x in layers]

    search = [
        plot("losses", "search/train_loss", "search/val_loss"),
        *([plot("mean rank", "search/mean_rank")] if by_threshold else []),
        plot("mean entropy of alpha", "search/mean_entropy"),
        plot("|implicit| / |direct|", "search/implicit_to_direct", log_y=True),
        plot("cosine of implicit and direct", "search/cosine"),
        plot("seconds per step", "search/seconds"),
    ]
    found = [f"figures/{name}" for name in ("ranks", "curve", "shares", "verdict")]
    over_search = [
        MediaBrowser(title="ranks over the search", media_keys=["search/rank_map"]),
        plot("rank of every layer", metric_regex="^rank/.*$"),
    ]
    maps = [
        MediaBrowser(title="the ranks found, and why", media_keys=found),
        *(over_search if by_threshold else []),
        plot("entropy of alpha of every layer", metric_regex="^entropy/.*$"),
    ]
    retraining = [
        plot("training loss", "retrain/loss", x="retrain/step"),
        plot("learning rate", "retrain/learning_rate", x="retrain/step"),
    ]
    sections = [
        ws.Section(name="Search", panels=search, is_open=True),
        ws.Section(name="Ranks", panels=maps, is_open=True),
        ws.Section(name="Retraining", panels=retraining, is_open=True),
        ws.Section(name="alpha of each layer", panels=each("alpha"), is_open=False),
        ws.Section(name="contribution of each layer", panels=each("contribution"), is_open=False),
    ]
    return ws.Workspace(entity=entity, project=project, name="AutoLoRA", sections=sections)
