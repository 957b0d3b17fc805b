"""`--workspace`: the view that it would save."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.engine.report.workspace import save_workspace, sections
from autolora.engine.run.folder import RunFolder
from autolora.problems.models.names import key_names

NAMES = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(12) for p in "qv"]


@pytest.fixture
def ws() -> Any:
    return pytest.importorskip("wandb_workspaces.workspaces", reason="wandb-workspaces is not installed")


def test_24_layers_are_a_few_dozen_panels_and_each_finds_its_own_numbers(ws: Any) -> None:
    names = key_names(NAMES)
    panels = sections(names)
    assert sum(map(len, panels.values())) < 65
    logged = [f"alpha/{name}/{j}" for name in [*names, "1x_q_proj"] for j in range(1, 9)]
    for name, panel in zip(names, panels["alpha of each layer"], strict=True):
        found = [key for key in logged if re.search(panel.metric_regex, key)]
        assert found == [f"alpha/{name}/{j}" for j in range(1, 9)]
        assert str(getattr(panel.x, "name", panel.x)) == "search/step"


@pytest.mark.trains
def test_the_view_of_a_run_that_was_sent_is_where_the_run_is(
    ws: Any, finished_run: Callable[..., RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Any] = []
    monkeypatch.setattr(ws.Workspace, "save", lambda self: saved.append(self) or self)
    monkeypatch.setattr(ws.Workspace, "url", "https://example.org/view")
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.delenv("WANDB_MODE")
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(finished_run("bert", "--tracking.entity", "team").root, folder.root)
    save_workspace(folder.root)
    folder.wandb_id.write_text("team/theirs/0a1b")
    save_workspace(folder.root)
    assert [(view.entity, view.project) for view in saved] == [("team", "autolora"), ("team", "theirs")]
    saved[0]._to_model()
