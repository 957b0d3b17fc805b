"""Stage 2 writes the adapter and metrics.json, tells the tracker, and leaves no checkpoint."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.retrain import stage
from autolora.engine.retrain.settings import FINISHED
from autolora.engine.retrain.stage import retrain
from autolora.engine.run.context import Context
from autolora.engine.tracking import Tracker
from tests.helpers.retraining import FEW, with_ranks
from tests.helpers.retraining import retrain as train


class Kept(Tracker):
    """A tracker that keeps what it is told."""

    def __init__(self) -> None:
        self.told: dict[str, Any] = {}

    def log(self, values: Mapping[str, Any]) -> None:
        self.told |= values


@pytest.mark.trains
def test_a_retraining_leaves_its_adapter_its_result_and_no_checkpoint(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], log_lines: list[str]
) -> None:
    config, folder = with_ranks(tiny_config(*FEW, "--retrain.checkpoint_every", "2"))
    tracker = Kept()
    retrain(run_of(config), tracker)
    assert any(line.startswith("INFO retrain (autolora): 20 rows, 1.3 epochs (4 steps), train") for line in log_lines)
    result = json.loads(folder.metrics.read_text())
    assert (folder.adapter / "adapter_model.safetensors").exists()
    assert result["settings"] == json.loads(json.dumps(FINISHED.of(config)))
    assert result["steps"] == {"search": None, "retrain": 4}
    evaluated = result["metrics"] | {"loss": result["loss"]}
    assert {k: v for k, v in tracker.told.items() if k.startswith("eval/")} == {
        f"eval/{name}": value for name, value in evaluated.items()
    }
    assert tracker.told["retrain/step"] == 4
    assert not folder.retrain.exists()


@pytest.mark.trains
def test_the_settings_are_those_of_the_run_also_when_a_sweep_chose_the_rate(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    config, folder = with_ranks(tiny_config(*FEW, "--retrain.learning_rates", "[1e-3,1e-2]"))
    retrain(run_of(config))
    result = json.loads(folder.metrics.read_text())
    assert result["learning_rate"] in (1e-3, 1e-2)
    assert result["settings"]["retrain.learning_rate"] == config.retrain.learning_rate
    assert result["settings"]["retrain.learning_rates"] == [1e-3, 1e-2]


@pytest.mark.trains
def test_the_checkpoints_are_removed_only_when_the_result_is_written(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config, folder = with_ranks(tiny_config(*FEW, "--retrain.checkpoint_every", "2"))

    def full(path: Path, content: Any) -> None:
        if path == folder.metrics:
            raise OSError(28, "No space left on device", str(path))
        write_json(path, content)

    monkeypatch.setattr(stage, "write_json", full)
    with pytest.raises((OSError, UserError)):
        train(config)
    assert list(folder.retrain.glob("checkpoint-*/sealed.json")), "the training would be lost"
