"""`--workspace runs/x`: save a view in wandb with panels of the search, the answer and the retraining, and plots of
each layer's curves."""

import os
import re
from pathlib import Path
from typing import Any, NamedTuple

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.configs.schema import Autolora
from autolora.engine import ranks
from autolora.engine.ranks.grid import key_names
from autolora.engine.run.contents import read_result
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.run.settling import settle_if_free
from autolora.engine.terminal.console import console
from autolora.engine.tracking.login import entity_of, has_key, project_of
from autolora.engine.tracking.wandb_id import Identity, read_identity


def save_workspace(root: Path) -> None:
    """Creates the view in the wandb project to which the run was sent.

    Raises UserError if the run has no finished search, wandb-workspaces is not installed, there is no API key, or
    wandb refuses.
    """
    folder = RunFolder(root)
    settle_if_free(root)
    if not folder.trajectory.exists() or not folder.config.exists():
        raise UserError(f"--workspace: {root} holds no finished search; give the folder of a run, as runs/quickstart")
    config = load_config(folder.config)
    try:
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise UserError("--workspace: needs one more package; run: uv pip install wandb-workspaces") from error
    if not has_key():
        raise UserError("--workspace: no wandb API key; run `wandb login` or set WANDB_API_KEY")
    os.environ.setdefault("WANDB_SILENT", "true")
    logged = Logged(
        layers=key_names([layer.name for layer in ranks.load(folder.ranks).layers]),
        metrics=list(read_result(folder.metrics).get("metrics", {})),
        by_threshold=isinstance(config, Autolora) and config.answer.rule == "threshold",
    )
    try:
        import wandb

        sent = read_identity(folder.wandb_id) or Identity("", "", "")
        entity = config.tracking.entity or sent.entity or entity_of(config) or wandb.Api(timeout=20).default_entity
        project = config.tracking.project or sent.project or project_of(config)
        saved = build(ws, str(entity), project, logged).save()
    except Interrupted:
        raise
    except Exception as error:
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise UserError(f"--workspace: wandb refused or did not answer ({reason})") from error
    console.print(f"workspace  {saved.url}", highlight=False, soft_wrap=True)


class Logged(NamedTuple):
    """What a run has sent: the names of its layers, as keys have them, and its metrics (empty: it has not retrained).
    `by_threshold`: whether the search has ranks at every step; by other rules they are known at its end alone."""

    layers: list[str]
    metrics: list[str]
    by_threshold: bool


def build(ws: Any, entity: str, project: str, logged: Logged) -> Any:
    """The view, not yet saved; `ws` is the module wandb_workspaces.workspaces."""
    from wandb_workspaces.reports.v2 import LinePlot, MediaBrowser

    def plot(title: str, *metrics: str, **options: Any) -> Any:
        return LinePlot(title=title, x="search/step", y=list(metrics), **options)

    def each(kind: str) -> list[Any]:
        return [plot(x, metric_regex=f"^{kind}/{re.escape(x)}/[0-9]+$", max_runs_to_show=1) for x in logged.layers]

    search = [
        plot("losses", "search/train_loss", "search/val_loss"),
        *([plot("mean rank", "search/mean_rank")] if logged.by_threshold else []),
        plot("mean entropy of alpha", "search/mean_entropy"),
        plot("|implicit| / |direct|", "search/implicit_to_direct", log_y=True),
        plot("cosine of implicit and direct", "search/cosine"),
        plot("seconds per step", "search/seconds"),
    ]
    over_search = [
        MediaBrowser(title="ranks over the search", media_keys=["search/rank_map"]),
        plot("rank of every layer", metric_regex="^rank/.*$"),
    ]
    found = ("rank_map", "curve", "shares", "verdict")
    maps = [
        MediaBrowser(title="the ranks found, and why", media_keys=[f"figures/{name}" for name in found]),
        *(over_search if logged.by_threshold else []),
        plot("entropy of alpha of every layer", metric_regex="^entropy/.*$"),
    ]
    sections = [
        ws.Section(name="Search", panels=search, is_open=True),
        ws.Section(name="Ranks", panels=maps, is_open=True),
        ws.Section(name="Retraining", panels=_of_retraining(logged.metrics), is_open=True),
        ws.Section(name="alpha of each layer", panels=each("alpha"), is_open=False),
        ws.Section(name="contribution of each layer", panels=each("contribution"), is_open=False),
    ]
    return ws.Workspace(entity=entity, project=project, name="AutoLoRA", sections=sections)


def _of_retraining(metrics: list[str]) -> list[Any]:
    """The panels of the retraining, which ended with these metrics."""
    from wandb_workspaces.reports.v2 import BarPlot, LinePlot

    evaluated: list[Any] = [f"eval/{name}" for name in metrics]
    return [
        LinePlot(title="training loss", x="retrain/step", y=["retrain/loss"]),
        LinePlot(title="learning rate", x="retrain/step", y=["retrain/learning_rate"]),
        *([BarPlot(title="metrics on the evaluation rows", metrics=evaluated)] if evaluated else []),
    ]
