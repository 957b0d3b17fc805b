"""The same bilevel step by betty-ml 0.2.1 as it ships, set up in the way of AutoLoRA's published code.

That code has an `ImplicitProblem` for each level, whose `trainable_parameters` are those that are not frozen (for this
it patched a copy of Betty), Adam, hypergradient `darts`, fp32 and `roll_back=True`, and pads every sentence to 512
tokens. Betty itself is unchanged here: its Engine, its `darts`, and its reading of every loss value from the device.
"""

import logging
from collections.abc import Iterator
from typing import Any

import torch
from betty.configs import Config, EngineConfig
from betty.engine import Engine
from betty.logging import get_logger
from betty.problems import ImplicitProblem
from torch import Tensor, nn
from torch.nn import functional

from autolora.problems.bilevel import SelectionVariables
from autolora.problems.gates import Gates
from autolora.problems.models.load import load_tokenizer
from benchmarks.timing import Batch
from benchmarks.workload import Workload


class _Stock(ImplicitProblem):
    gates: Gates

    def trainable_parameters(self) -> list[nn.Parameter]:
        return [p for p in self.module.parameters() if p.requires_grad]


class _StockLora(_Stock):
    selection: Any

    def training_step(self, batch: Batch) -> Tensor:
        self.gates.values = self.selection()
        return self.module(**batch).loss


class _StockSelection(_Stock):
    lora: Any

    def training_step(self, batch: Batch) -> Tensor:
        self.gates.values = self.module()
        return self.lora.module(**batch).loss


class _Loader:
    """An endless loader of the batch that was last assigned to `batch`."""

    batch: Batch

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield dict(self.batch)


class StockStep:
    """One step of stock Betty (inner and outer). `roll_back`: the inner step is redone with the new beta, after the
    whole model was copied and reloaded; `pad_to`: every batch is padded to this many tokens."""

    def __init__(self, work: Workload, *, roll_back: bool = False, pad_to: int | None = None) -> None:
        self.pad_to = pad_to
        self.pad = int(load_tokenizer(work.config.model).pad_token_id or 0)
        self.handed = _Loader()
        model = work.lora()
        gates = Gates(model)
        variables = SelectionVariables(len(gates.names), gates.k)
        search = work.config.search
        weights = [p for p in model.parameters() if p.requires_grad]
        lora = _StockLora(
            "lora", Config(type="darts", unroll_steps=1), model, torch.optim.Adam(weights, lr=search.learning_rate),
            None, self.handed,
        )  # fmt: skip
        selection = _StockSelection(
            "selection", Config(retain_graph=True), variables,
            torch.optim.Adam(variables.parameters(), lr=search.selection_learning_rate), None, self.handed,
        )  # fmt: skip
        lora.gates = selection.gates = gates
        get_logger().setLevel(logging.WARNING)
        self.engine = Engine(
            problems=[selection, lora],
            config=EngineConfig(roll_back=roll_back, strategy="default"),
            dependencies={"u2l": {selection: [lora]}, "l2u": {lora: [selection]}},
        )
        self.engine.train()

    def __call__(self, batch: Batch) -> None:
        self.handed.batch = batch if self.pad_to is None else self._padded(batch, self.pad_to)
        self.engine.global_step += 1
        self.engine.train_step()

    def _padded(self, batch: Batch, width: int) -> Batch:
        """Every [rows, tokens] tensor widened: token ids by the padding token, masks by 0."""
        return {
            name: functional.pad(value, (0, width - value.shape[1]), value=self.pad if name == "input_ids" else 0)
            if value.dim() == 2
            else value
            for name, value in batch.items()
        }
