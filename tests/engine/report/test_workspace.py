"""`--workspace`: the view that it would save."""

import re

import pytest

from autolora.engine.report.workspace import sections
from autolora.problems.models.names import key_names


def test_24_layers_are_a_few_dozen_panels_and_each_finds_its_own_numbers() -> None:
    pytest.importorskip("wandb_workspaces.workspaces", reason="wandb-workspaces is not installed")
    names = key_names([f"model.layers.{i}.self_attn.{p}_proj" for i in range(12) for p in "qv"])
    panels = sections(names)
    assert sum(map(len, panels.values())) < 65
    logged = [f"alpha/{name}/{j}" for name in [*names, "1x_q_proj"] for j in range(1, 9)]
    for name, panel in zip(names, panels["alpha of each layer"], strict=True):
        found = [key for key in logged if re.search(panel.metric_regex, key)]
        assert found == [f"alpha/{name}/{j}" for j in range(1, 9)]
        assert str(getattr(panel.x, "name", panel.x)) == "search/step"
