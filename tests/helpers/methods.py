"""A finished run of one method, with the logits that its model gave before anything was written."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.retrain import stage
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.stages import run_stages

# A width of 32: one rank-1 component of a layer has 64 numbers, the head 66.
SIZE, HEAD, LAYERS, R, K = 64, 66, 4, 2, 4
NAMES = [f"bert.encoder.layer.{i}.attention.self.{part}" for i in (0, 1) for part in ("query", "value")]
LEARNED = [1, 4, 2, 3]


@dataclass
class Done:
    """A finished run, and the logits of its model before anything was written."""

    base: Path
    folder: RunFolder
    batch: Any
    logits: torch.Tensor
    result: dict[str, Any]

    def plain_base(self) -> Any:
        return AutoModelForSequenceClassification.from_pretrained(self.base, num_labels=2)

    def logits_of(self, model: Any) -> torch.Tensor:
        with torch.no_grad():
            return model.eval()(**self.batch).logits


def batch_for(base: Path) -> dict[str, torch.Tensor]:
    """Two sentences, as the base model reads them."""
    texts = ["the film is dull .", "our room was not noisy ."]
    return dict(AutoTokenizer.from_pretrained(base)(texts, padding=True, return_tensors="pt"))


def run(config: RunConfig, base: Path, *, draw: bool = False) -> Done:
    folder = RunFolder(Path(config.runs_folder) / str(config.name))
    done = Done(base, folder, batch_for(base), torch.zeros(0), {})
    original = stage.fit

    def keep(*arguments: Any) -> Any:
        trained, state = original(*arguments)
        done.logits = done.logits_of(trained.model)
        return trained, state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "fit", keep)
        run_stages(Request(config, "all", False, "tiny.yaml"), StopRequest(), draw=draw)
    done.result = json.loads(done.folder.metrics.read_text())
    return done
