"""Plain PEFT LoRA at given ranks: learned by a search, chosen by trials, the same everywhere, shuffled, or random."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from autolora.configs.training import LoraShuffled
from autolora.engine import ranks
from autolora.engine.cut.basis import Basis
from autolora.engine.cut.cut import cut_adapter
from autolora.engine.export.lora_config import adapter_config, attach_ranks
from autolora.engine.ranks import LayerRank, RankRecord
from autolora.engine.retrain import controls
from autolora.engine.retrain.from_search import start_from_adapter, start_from_search
from autolora.engine.retrain.methods.base import Method, budget_of, layer_sizes
from autolora.engine.retrain.prepared import Prepared
from autolora.engine.run.context import Context
from autolora.engine.run.sources import adapter_to_start_from, components_file, other_run, ranks_from
from autolora.problems.machine.draws import seed_of
from autolora.problems.models.attach import ADAPTER, factors, lora_layers
from autolora.problems.models.fused import split
from autolora.problems.models.layers import layer_shapes, lora_layers_of
from autolora.problems.models.load import BaseModel

Source = Callable[[PreTrainedModel, Context], tuple[RankRecord, Path]]
"""Gives the ranks for a model, and the file or option that an error names if they do not fit the model."""


def at_ranks(source: Source, *, new: bool = True) -> Method:
    """The method that trains at the ranks of `source`; `new`: whether it writes them to ranks.json."""
    return partial(_at_ranks, source, new)


def _at_ranks(source: Source, new: bool, base: BaseModel, run: Context, rows: int) -> Prepared:
    return recorded_lora(*source(base.model, run), base, run, new=new)


def recorded_lora(record: RankRecord, blame: Path, base: BaseModel, run: Context, *, new: bool = True) -> Prepared:
    """`lora_at` for the ranks of the run itself."""
    return dataclasses.replace(lora_at(record, blame, base, run), new_ranks=new)


def lora_at(record: RankRecord, blame: Path, base: BaseModel, run: Context) -> Prepared:
    """`base` with LoRA at the ranks of a record, at the scale that `retrain.scale` names.

    Raises UserError that names `blame` when the ranks do not fit the model.
    """
    config = run.adapted
    _check(record, base.model, blame)
    prepared = _attached(record, base.model, base.trained_whole, run)
    model = prepared.model
    assert isinstance(model, PeftModel)
    start_in_common(model, config.seed)
    if (adapter := adapter_to_start_from(config)) is not None:
        start_from_adapter(model, adapter)
    elif (weights := components_file(config, run.folder)) is not None:
        other = other_run(config)
        start_from_search(model, config, record, weights, record if other is None else ranks.load(other.ranks))
    return prepared


def _check(record: RankRecord, model: PreTrainedModel, blame: Path) -> None:
    split(model, record.ranks)
    ranks.check_against(record, layer_shapes(model), blame)


def _attached(record: RankRecord, model: PreTrainedModel, whole: list[str], run: Context) -> Prepared:
    count = ranks.count_parameters(record.kept, layer_sizes(model))
    record = ranks.of_run(dataclasses.replace(record, lora_parameters=count), run.adapted)
    return Prepared(attach_ranks(model, adapter_config(run.adapted, record, run.task, whole), record), record)


@torch.no_grad()
def start_in_common(model: PeftModel, seed: int) -> None:
    """Initialises A from (seed, layer name) alone, so that A at any rank is the first rows of one matrix: trainings of
    one seed differ in their ranks alone. The rows are distributed as PEFT draws them (Kaiming uniform)."""
    for name, layer in lora_layers(model).items():
        a, _ = factors(layer)
        bound = a.shape[1] ** -0.5
        drawn = np.random.default_rng(seed_of(seed, name)).uniform(-bound, bound, tuple(a.shape))
        a.copy_(torch.from_numpy(drawn))


@torch.no_grad()
def as_plain_lora(
    trained: PeftModel, record: RankRecord, updates: Mapping[str, tuple[Tensor, Tensor]], run: Context
) -> Prepared:
    """The base model of `trained`, with the modules that were trained whole, and plain LoRA at the ranks of `record`.
    `updates`: layer -> A [rank, inputs] and B [outputs, rank] with the scale in them. `trained` cannot be used
    afterwards."""
    settings: Any = trained.peft_config[ADAPTER]
    base: Any = trained.unload()
    prepared = _attached(record, base, list(settings.modules_to_save or []), run)
    assert isinstance(prepared.model, PeftModel)
    for name, layer in lora_layers(prepared.model).items():
        for factor, value in zip(factors(layer), updates[name], strict=True):
            factor.copy_(value)
        factors(layer)[1].div_(layer.scaling[ADAPTER])
    return prepared


@torch.no_grad()
def cut_to(
    model: PeftModel, bases: Mapping[str, Basis], kept: Mapping[str, int], rule: str, run: Context
) -> Prepared:  # fmt: skip
    """`model` with the first components of each layer in these bases, at the ranks `kept`, as plain LoRA. `model`
    cannot be used afterwards. Raises UserError if all ranks are 0."""
    layers = lora_layers(model)
    _, state = cut_adapter(model, ADAPTER, bases, kept)
    updates = {}
    for name in (name for name, rank in kept.items() if rank):
        a, b = (state[f"base_model.model.{name}.lora_{factor}.weight"] for factor in "AB")
        updates[name] = a, b * layers[name].scaling[ADAPTER]
    record = RankRecord(run.adapted.lora.k, tuple(LayerRank(*item) for item in kept.items()), rule=rule)
    return as_plain_lora(model, record, updates, run)


def of_the_run(model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
    """The ranks in the run's own ranks.json, which a search or trials chose, or someone wrote by hand."""
    return ranks.load(run.folder.ranks), run.folder.ranks


def uniform(model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
    """The usual LoRA: rank lora.r in every layer that the target modules match."""
    settings = run.adapted.lora
    return controls.uniform(lora_layers_of(model, settings), settings.r, settings.k), Path("--lora.r")


def of_another(model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
    """The ranks in lora.ranks_from, unchanged."""
    given, source = _given(model, run)
    return controls.given(given), source


def shuffled(model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
    """A control for whether it matters which layer has which rank: the ranks in lora.ranks_from, permuted by the seed
    among layers of one size or of one type."""
    given, source = _given(model, run)
    return controls.shuffled(given, layer_shapes(model), _draw(run), run.adapted.lora.shuffle), source


def random(model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
    """A control for whether learned ranks beat random ones: random ranks with as many parameters as lora.ranks_from
    has or, if that is null, as lora.budget gives; no rank above lora.cap."""
    lora = run.adapted.lora
    if lora.ranks_from is None:
        names, source, k = lora_layers_of(model, lora), Path("--lora.budget"), lora.k
        own = [layer_sizes(model)[name] for name in names]
        budget = budget_of(lora, own, least=min(own))
    else:
        like, source = _given(model, run)
        names, k = [layer.name for layer in like.layers], like.k
        budget = ranks.count_parameters(like.kept, layer_sizes(model))
    return controls.random_ranks(names, layer_shapes(model), budget, k, _draw(run), lora.cap), source


def _given(model: PreTrainedModel, run: Context) -> tuple[RankRecord, Path]:
    """The ranks in lora.ranks_from, and the file. Raises UserError if they do not fit the model."""
    source = ranks_from(run.config)
    given = ranks.load(source)
    _check(given, model, source)
    return given, source


def _draw(run: Context) -> controls.Draw:
    """The seed and the number of a run's random draw."""
    lora: LoraShuffled = run.adapted.lora
    return (run.config.seed if lora.draw_seed is None else lora.draw_seed), lora.draw
