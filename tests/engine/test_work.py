"""The labels by which wandb groups and filters runs."""

from pathlib import Path

import pytest

from autolora.configs.parser import parse
from autolora.engine.run.asked import Asked
from autolora.engine.run.folder import RunFolder
from autolora.engine.work import _tracker
from tests.helpers.fake_wandb import fake_wandb


@pytest.mark.parametrize("method", ["autolora", "lora", "lora_grid", "optuna"])
def test_the_approximation_is_a_label_of_autolora_alone(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_wandb(monkeypatch)
    place = ("--runs_folder", str(tmp_path), "--name", "a", "--tracking.wandb", "offline", "--lora.target_modules")
    config = parse([*place, "[query]", "--method", method, "--hypergradient.type", "cg"]).config
    _tracker(Asked(config, RunFolder.of(config)))
    approximation = ["cg"] if method == "autolora" else []
    assert run.options["job_type"] == "/".join([method, *approximation])
    assert run.options["tags"] == ["sample", method, "seed 0", *approximation]
