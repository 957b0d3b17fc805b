"""EVA (Paischer et al., arXiv 2410.07170) as PEFT has it: ranks and A from the principal components of what goes into
each layer, over the training rows."""

import dataclasses
import logging
import time
from collections.abc import Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from peft import EvaConfig, PeftModel
from peft.tuners.lora.eva import get_eva_state_dict
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PreTrainedModel

from configs.errors import UserError
from engine.export.outputs import save_all
from engine.ranks import LayerRank, RankRecord
from engine.retrain.methods.base import Method, Prepared
from engine.retrain.methods.lora import recorded_lora
from engine.retrain.owners import EVA
from engine.run.context import Context
from problems.data import LengthGroupedOrder
from problems.models.attach import ADAPTER, lora_config, lora_layers
from problems.models.layers import layer_shapes, lora_layers_of
from problems.models.load import BaseModel
from problems.tasks.causal import Causal

log = logging.getLogger("autolora")

MOST_BATCHES = 1000
"""PEFT repeats the rows until the components stand still; after so many batches it is given up."""


class Eva(Method):
    """Plain LoRA at the ranks that explain most of the variance of the layers' inputs; A starts as their principal
    components, B as 0."""

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """The inputs are those of all training rows, D_val's too: no rate that is tried changes the ranks, and of
        classes and numbers to be predicted nothing is read."""
        began = time.perf_counter()
        found = run.processes.of_first(lambda: _Inputs(base, run).components())
        seconds = time.perf_counter() - began
        record = RankRecord(run.config.lora.k, tuple(LayerRank(n, len(x)) for n, x in found.items()), rule=EVA)
        prepared = recorded_lora(record, Path("--lora.rho"), base, run)
        assert isinstance(prepared.model, PeftModel)
        with torch.no_grad():
            for name, layer in lora_layers(prepared.model).items():
                weight: Any = layer.lora_A[ADAPTER].weight
                weight.copy_(found[name])
        return dataclasses.replace(prepared, seconds=seconds)

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """adapter/, and adapter_padded/ and merged/ when asked for."""
        assert isinstance(prepared.model, PeftModel)
        save_all(prepared.model, run.tokenizer, run.folder, run.config)
        return prepared.record


class _Inputs:
    """The passes of the base model in which PEFT looks at what goes into its layers."""

    def __init__(self, base: BaseModel, run: Context) -> None:
        self.base = base
        self.run = run
        self.passes = 0
        self.causal = isinstance(run.task, Causal)
        lora = run.config.lora
        self.layers = lora_layers_of(base.model, lora)
        self.most = round(lora.r * lora.rho)
        """Components of a layer at most."""
        self._refuse_narrow()

    def components(self) -> dict[str, Tensor]:
        """Layer -> its directions, which are the rows of A [rank, inputs]; without any for a layer of rank 0."""
        run, lora = self.run, self.run.config.lora
        model: Any = self.base.model
        settings = lora_config(
            lora, run.task.peft_type, self.base.trained_whole, r=lora.r, target_modules=self.layers,
            init_lora_weights="eva", eva_config=EvaConfig(rho=lora.rho),
        )  # fmt: skip
        if not run.config.model.load_in_4bit:  # those lie on the device already, and refuse to be moved
            model.to(run.compute.device)
        found = get_eva_state_dict(
            model, self._batches(), settings, forward_fn=self._forward, prepare_model_inputs_fn=self._places,
            prepare_layer_inputs_fn=_tokens, gather_distributed_inputs=False, show_progress_bar=False,
        )  # fmt: skip
        log.info("eva: ranks by the inputs of the layers in %d batches", self.passes)
        return {name: found[name].cpu() for name in self.layers}

    def _batches(self) -> DataLoader[Any]:
        rows: Any = self.run.data.train
        size = self.run.config.retrain.batch_size
        order = LengthGroupedOrder(rows["length"], size, self.run.config.seed)
        return DataLoader(rows, batch_size=size, sampler=order, collate_fn=self.run.data.collate)

    def _places(self, batch: Mapping[str, Tensor], settings: Any) -> Tensor:
        """Which tokens count [rows, tokens]: no padding and, as PEFT does for language models, none of a prompt."""
        places = batch["attention_mask"].bool()
        return places & (batch["labels"] != -100) if self.causal else places

    def _forward(self, model: PreTrainedModel, batch: Mapping[str, Tensor]) -> None:
        """A pass in which the hooks look; a batch with fewer tokens than components tells nothing, and is left out.

        Raises UserError where the components do not come to rest, Interrupted when a signal asked to stop.
        """
        if self.run.processes.size == 1:
            self.run.stop.check()
        self.passes += 1
        if self.passes > MOST_BATCHES:
            size = self.run.config.retrain.batch_size
            raise UserError(
                f"--lora.rho: up to {self.most} principal components of a layer do not come to rest in {MOST_BATCHES} "
                f"batches of {size} rows; allowed: a lower --lora.rho or --lora.r, or a larger --retrain.batch_size"
            )
        first = self.passes == 1  # in this one PEFT only asks which layers have the same inputs
        if not first and int(self._places(batch, None).sum()) < self.most:
            return
        inputs: dict[str, Any] = {name: value for name, value in batch.items() if name != "labels"}
        if "logits_to_keep" in signature(model.forward).parameters:  # a vocabulary is wide, and nobody reads these
            inputs["logits_to_keep"] = 1
        model(**inputs)

    def _refuse_narrow(self) -> None:
        """Raises UserError for a layer that has not as many components as it may get."""
        shapes = layer_shapes(self.base.model)
        narrow = min(self.layers, key=lambda name: min(shapes[name]))
        if self.most > min(shapes[narrow]):
            raise UserError(
                f"--lora.rho: {self.run.config.lora.rho:g} with --lora.r {self.run.config.lora.r} lets a layer have "
                f"rank {self.most}, above the {min(shapes[narrow])} of {narrow}; allowed: lower ones"
            )


def _tokens(inputs: Any, places: Tensor, name: str) -> Tensor:
    """What goes into a layer [tokens, inputs], of the tokens that count; all where it has other rows or tokens than
    the batch (a decoder, a pooler)."""
    found: Tensor = inputs[0] if isinstance(inputs, tuple | list) else inputs
    return found[places] if found.shape[:2] == places.shape else found.reshape(-1, found.shape[-1])
