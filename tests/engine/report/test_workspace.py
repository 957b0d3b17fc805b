"""`--workspace`: the view it would save, and one line for each reason that it cannot."""

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.engine.ranks.grid import key_names
from autolora.engine.report.workspace import Logged, build, save_workspace
from autolora.engine.run.folder import RunFolder

NAMES = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(12) for p in "qv"]


def test_a_folder_without_a_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--workspace: .* holds no finished search"):
        save_workspace(tmp_path)


@pytest.fixture
def ws() -> Any:
    return pytest.importorskip("wandb_workspaces.workspaces", reason="wandb-workspaces is not installed")


def test_24_layers_are_a_few_dozen_panels_and_each_finds_its_own_numbers(ws: Any) -> None:
    names = key_names(NAMES)
    made = build(ws, "team", "project", Logged(names, ["f1"], by_threshold=True))
    sections = {section.name: section.panels for section in made.sections}
    assert sum(map(len, sections.values())) < 65
    assert [section.is_open for section in made.sections] == [True, True, True, False, False]
    logged = [f"alpha/{name}/{j}" for name in [*names, "1x_q_proj"] for j in range(1, 9)]
    for name, panel in zip(names, sections["alpha of each layer"], strict=True):
        found = [key for key in logged if re.search(panel.metric_regex, key)]
        assert found == [f"alpha/{name}/{j}" for j in range(1, 9)]
        assert str(getattr(panel.x, "name", panel.x)) == "search/step"


def test_no_panel_waits_for_what_the_run_never_sends(ws: Any) -> None:
    """Three of them stayed empty with the rule shares, the default."""

    def titles(*, metrics: list[str], by_threshold: bool) -> set[str]:
        made = build(ws, "team", "project", Logged(["0_query"], metrics, by_threshold))
        return {panel.title for section in made.sections for panel in section.panels if panel.title}

    both = titles(metrics=["f1"], by_threshold=True)
    assert both - titles(metrics=["f1"], by_threshold=False) == {
        "mean rank", "ranks over the search", "rank of every layer"
    }  # fmt: skip
    assert both - titles(metrics=[], by_threshold=True) == {"metrics on the evaluation rows"}


@pytest.mark.trains
def test_what_is_saved_goes_to_the_runs_project(
    ws: Any, finished_run: Callable[..., RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Any] = []

    def save(self: Any) -> Any:
        saved.append(self)
        return self

    monkeypatch.setenv("WANDB_API_KEY", "k")
    monkeypatch.setattr(ws.Workspace, "save", save)
    monkeypatch.setattr(ws.Workspace, "url", "https://example.org/view")
    save_workspace(finished_run("bert", "--tracking.project", "mine", "--tracking.entity", "team").root)
    assert (saved[0].entity, saved[0].project) == ("team", "mine")
    saved[0]._to_model()


@pytest.mark.trains
def test_the_view_of_a_run_that_was_sent_is_where_the_run_is(
    ws: Any, finished_run: Callable[..., RunFolder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WANDB_ENTITY of the shell that trained was forgotten: the view went to the user's own project."""
    saved: list[tuple[str, str]] = []

    def save(self: Any) -> Any:
        saved.append((self.entity, self.project))
        return self

    monkeypatch.setattr(ws.Workspace, "save", save)
    monkeypatch.setattr(ws.Workspace, "url", "https://example.org/view")
    monkeypatch.setenv("WANDB_API_KEY", "k")
    monkeypatch.delenv("WANDB_PROJECT", raising=False)
    monkeypatch.setenv("WANDB_ENTITY", "now")
    folder = RunFolder(tmp_path / "run")
    shutil.copytree(finished_run("bert").root, folder.root)
    save_workspace(folder.root)
    folder.wandb_id.write_text("team/theirs/0a1b")
    save_workspace(folder.root)
    assert saved == [("now", "autolora"), ("team", "theirs")]
