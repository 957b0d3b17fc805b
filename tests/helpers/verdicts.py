"""A verdict whose trainings are not trained: what each would have written is made up here."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from autolora.configs.schema import Lora, RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import OUT_OF_TIME, StopRequest
from autolora.engine.study.cells import Cell
from tests.helpers.finished import RESULT
from tests.helpers.methods import LEARNED, NAMES, SIZE

ROWS = 600
Loss = Callable[[str, int], float]
"""The mean loss of an arm in the pair of this number."""


def better(by: float) -> Loss:
    """Losses with which the learned ranks are better than all others by about `by` nats; LoRA gains 1 nat."""
    noise = np.random.default_rng(3).normal(0, 0.01, 30)

    def loss(arm: str, pair: int) -> float:
        return {"learned": 1.0, "head": 2.0}.get(arm, 1.0 + by + float(noise[pair]))

    return loss


class FakeLauncher:
    """Writes what a training of each cell would have written; after `stop_after` cells the time is over. `base`: the
    digest of the base model's weights."""

    def __init__(
        self, loss: Loss, stop_after: int | None = None, code: int = OUT_OF_TIME, base: str = "digest"
    ) -> None:
        self.loss = loss
        self.base = base
        self.trained: list[RunConfig] = []
        self.stop_after = stop_after
        self.code = code

    def __call__(self, cells: Sequence[Cell], settings: Any, stop: StopRequest) -> list[str]:
        for cell in cells:
            if len(self.trained) == self.stop_after:
                stop.code = self.code
            stop.check()
            self.trained.append(cell.config)
            kind, number, *arm = cell.name.split("-")
            self.write(cell.config, self.loss(arm[0] if arm else kind, int(number)))
        return []

    def write(self, config: RunConfig, loss: float) -> None:
        folder = RunFolder.of(config)
        rows = np.random.default_rng(0).normal(loss, 0.3, ROWS)
        rows += loss - rows.mean()
        folder.adapter.mkdir(parents=True)
        pd.DataFrame({"loss": rows, "weight": np.ones(ROWS), "source": np.arange(ROWS)}).to_parquet(folder.row_losses)
        size = len(NAMES) * SIZE * config.lora.r if isinstance(config, Lora) else sum(LEARNED) * SIZE
        made_from = {"base_weights": self.base}
        write_json(folder.metrics, RESULT | {"lora_parameters": size, "commit": "a1"} | made_from)
