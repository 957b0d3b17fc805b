"""Plain PEFT LoRA at given ranks: learned by the search, the same everywhere, shuffled, random."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from peft import PeftModel
from transformers import PreTrainedModel

from engine import export, ranks
from engine.ranks import RankRecord
from engine.ranks import controls as choices
from engine.retrain.adapter import adapter_config, attach_ranks, start_from_search
from engine.retrain.methods.base import Method, Prepared, layer_sizes, ranks_from
from engine.run.context import Context
from problems.models.layers import layer_shapes, target_layers
from problems.models.load import BaseModel
from problems.models.parts import layer_ranks


class RankedLora(Method):
    """LoRA at the ranks of a record, every component at the scale lora_alpha / k of the search."""

    @abstractmethod
    def record(self, model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
        """The ranks, and the file that is to blame when they do not fit the model."""

    def prepare(self, base: BaseModel, run: Context, rows: int) -> Prepared:
        """Checks the ranks against the model, attaches LoRA; ranks that were chosen here are recorded."""
        config, folder = run.config, run.folder
        record, source = self.record(base.model, run)
        ranks.check_against(record, layer_shapes(base.model), source)
        sizes = layer_sizes(base.model)
        count = ranks.count_parameters(record.kept, sizes)
        stored = ranks.count_parameters(layer_ranks(record.kept), sizes)
        record = dataclasses.replace(record, lora_parameters=count)
        model = attach_ranks(base.model, adapter_config(config, record, run.task, base.trained_whole), record)
        if config.retrain.init == "search":
            start_from_search(model, config, record, folder.search_weights)
        if self.rules and run.processes.first:
            ranks.save(record, folder.ranks)
        return Prepared(model, record, zeros=stored - count)

    def save(self, prepared: Prepared, run: Context) -> RankRecord | None:
        """adapter/, and adapter_padded/ and merged/ when asked for."""
        assert isinstance(prepared.model, PeftModel)
        export.save_all(prepared.model, run.tokenizer, run.folder, run.config)
        return prepared.record


class Learned(RankedLora):
    """AutoLoRA: the ranks that the search found, or that someone wrote by hand."""

    rules: ClassVar = None

    def record(self, model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
        """ranks.json of the run."""
        return ranks.load(run.folder.ranks), run.folder.ranks


class Chosen(RankedLora):
    """LoRA at the ranks that a grid search on D_val chose (engine/retrain/trials.py)."""

    rules: ClassVar = (choices.GRID,)

    def record(self, model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
        """ranks.json of the run."""
        return ranks.load(run.folder.ranks), run.folder.ranks


class Uniform(RankedLora):
    """LoRA as everyone uses it: lora.r in every layer."""

    rules: ClassVar = (choices.UNIFORM,)

    def record(self, model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
        """lora.r on every layer that the targets match."""
        settings = run.config.lora
        names = target_layers(model, settings.target_modules)
        return choices.uniform(names, settings.r, settings.k), Path("--lora.r")


class Shuffled(RankedLora):
    """Control: does it matter which layer got which of the learned ranks?"""

    rules: ClassVar = (choices.SHUFFLED,)
    reads_ranks = True

    def record(self, model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
        """The ranks of lora.ranks_from, permuted over the layers by seed."""
        config = run.config
        source = ranks_from(config, run.task)
        given = ranks.load(source)
        ranks.check_against(given, layer_shapes(model), source)
        return choices.shuffled(given, layer_sizes(model), config.seed), source


class Random(RankedLora):
    """Control: do learned ranks beat random ones of the same parameter count?"""

    rules: ClassVar = (choices.RANDOM,)
    reads_ranks = True

    def record(self, model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
        """Random ranks with the parameters of lora.ranks_from, else of lora.r in every layer."""
        config, sizes = run.config, layer_sizes(model)
        if config.lora.ranks_from is None:
            names = target_layers(model, config.lora.target_modules)
            like, source = choices.uniform(names, config.lora.r, config.lora.k), Path("--lora.r")
        else:
            source = ranks_from(config, run.task)
            like = ranks.load(source)
        ranks.check_against(like, layer_shapes(model), source)
        names = [layer.name for layer in like.layers]
        budget = ranks.count_parameters(like.kept, sizes)
        return choices.random_ranks(names, sizes, budget, like.k, config.seed), source
