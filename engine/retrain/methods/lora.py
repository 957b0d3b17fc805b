"""Plain PEFT LoRA at given ranks: learned by a search, chosen by trials, the same everywhere,
shuffled, or random."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from autolora.configs.errors import UserError
from autolora.engine import ranks
from autolora.engine.cut.basis import Basis, parameters_of
from autolora.engine.cut.cut import cut_adapter, lora_pair, scale_of
from autolora.engine.export.adapter import save_all
from autolora.engine.export.lora_config import adapter_config, attach_ranks
from autolora.engine.ranks import RankRecord
from autolora.engine.retrain import controls
from autolora.engine.retrain.controls import record_of
from autolora.engine.retrain.prepared import Method, Prepared
from autolora.engine.run.context import Context
from autolora.engine.store.sources import components_file, ranks_from
from autolora.problems.machine.draws import seed_of
from autolora.problems.models.attach import ADAPTER, factors, lora_layers
from autolora.problems.models.fused import split
from autolora.problems.models.layers import layer_shapes, lora_layers_of
from autolora.problems.models.load import BaseModel

Source = Callable[[PreTrainedModel, Context], RankRecord]
"""Gives the ranks for a model. Raises UserError that names the file if they do not fit."""
State = dict[str, Tensor]
"""The weights of an adapter, named as in PEFT's files."""


def at_ranks(source: Source) -> Method:
    """The method that trains at the ranks of `source`."""
    return lambda base, run: lora_at(source(base.model, run), base, run)


def of_the_run(model: PreTrainedModel, run: Context) -> RankRecord:
    """The ranks in the run's own ranks.json, which a search or trials chose, or someone wrote by
    hand."""
    return _read(run.folder.ranks, model)


def uniform(model: PreTrainedModel, run: Context) -> RankRecord:
    """The usual LoRA: rank lora.r in every layer that the target modules match."""
    return _uniform(run.adapted.lora.r, model, run)


def of_another(model: PreTrainedModel, run: Context) -> RankRecord:
    """The ranks in lora.ranks_from, unchanged."""
    given = _read(ranks_from(run.config), model)
    return record_of(given.ranks, given.k, run.config.method)


def shuffled(model: PreTrainedModel, run: Context) -> RankRecord:
    """A control for whether it matters which layer has which rank: the ranks in lora.ranks_from,
    permuted by the seed among layers of one size."""
    return controls.shuffled(
        _read(ranks_from(run.config), model), layer_sizes(model), run.config.seed
    )


def random(model: PreTrainedModel, run: Context) -> RankRecord:
    """A control for whether learned ranks beat random ones: random ranks with as many parameters as
    lora.ranks_from has or, if that is null, as lora.budget gives."""
    lora = run.adapted.lora
    like = None if lora.ranks_from is None else _read(ranks_from(run.config), model)
    all_shapes = layer_shapes(model)
    names = lora_layers_of(model, lora) if like is None else list(like.ranks)
    shapes = {name: all_shapes[name] for name in names}
    if like is None:
        budget = parameters_of(lora.budget, [sum(shape) for shape in shapes.values()])
        return controls.random_ranks(shapes, budget, lora.k, run.config.seed)
    return controls.random_ranks(
        shapes, ranks.count_parameters(like.kept, layer_sizes(model)), like.k, run.config.seed
    )


def layer_sizes(model: Any) -> dict[str, int]:
    """Name -> inputs + outputs of every layer that could take LoRA: the parameters of one
    component."""
    return {name: sum(shape) for name, shape in layer_shapes(model).items()}


def _uniform(rank: int, model: PreTrainedModel, run: Context) -> RankRecord:
    settings = run.adapted.lora
    return record_of(
        dict.fromkeys(lora_layers_of(model, settings), rank), settings.k, run.config.method
    )


def _read(path: Path, model: PreTrainedModel) -> RankRecord:
    """The ranks in a file. Raises UserError if they do not fit the model."""
    record = ranks.load(path)
    split(model, record.ranks)
    ranks.check_against(record, layer_shapes(model), path)
    return record


def wide_lora(base: BaseModel, run: Context) -> Prepared:
    """`base` with LoRA of rank lora.k in every layer, of which a method keeps less in the end: its
    ranks are unknown yet."""
    prepared = lora_at(_uniform(run.adapted.lora.k, base.model, run), base, run)
    return dataclasses.replace(prepared, record=None)


def lora_at(record: RankRecord, base: BaseModel, run: Context) -> Prepared:
    """`base` with LoRA at the ranks of a record, at the scale that `retrain.scale` names. Raises
    UserError if the ranks do not fit the model."""
    ranks.check_against(record, layer_shapes(base.model), Path("--lora"))
    prepared = _attached(record, base.model, base.trained_whole, run)
    model: Any = prepared.model
    start_in_common(model, run.config.seed)
    file = components_file(run.config, run.folder)
    if file is not None:
        cut = file.name == SAFETENSORS_WEIGHTS_NAME
        start_from(model, _of_adapter(file.parent) if cut else _searched(record, file, run), file)
    return prepared


def _attached(
    record: RankRecord, model: PreTrainedModel, whole: list[str], run: Context
) -> Prepared:
    count = ranks.count_parameters(record.kept, layer_sizes(model))
    record = ranks.of_run(dataclasses.replace(record, lora_parameters=count), run.adapted)
    peft_model = attach_ranks(model, adapter_config(run.adapted, record, run.task, whole), record)
    save = partial(save_all, peft_model, record, run.tokenizer, run.folder, run.adapted, run.ends)
    return Prepared(peft_model, record, save=save)


@torch.no_grad()
def start_in_common(model: PeftModel, seed: int) -> None:
    """Initialises A from (seed, layer name) alone, so that A at any rank is the first rows of one
    matrix: trainings of one seed differ in their ranks alone. The rows are distributed as PEFT
    draws them (Kaiming uniform)."""
    for name, layer in lora_layers(model).items():
        a, _ = factors(layer)
        bound = a.shape[1] ** -0.5
        drawn = np.random.default_rng(seed_of(seed, name)).uniform(-bound, bound, tuple(a.shape))
        a.copy_(torch.from_numpy(drawn))


def start_from(model: PeftModel, state: State, file: Path) -> None:
    """Copies an adapter, with the scale of each layer in its B, into `model`, which then
    computes what it does.

    Raises UserError if it has other layers, ranks or modules that are trained whole than the
    model."""
    own = get_peft_model_state_dict(model, save_embedding_layers=False)
    if other := _shapes(own) ^ _shapes(state):
        raise UserError(
            f"--retrain.init: {min(other)[0]} is not the same in {file} and in this training; "
            "give --lora.ranks_from and --lora.modules_to_save that fit, or --retrain.init "
            "scratch"
        )
    for name, layer in lora_layers(model).items():
        state[_key(name, "B")] = state[_key(name, "B")] / layer.scaling[ADAPTER]
    set_peft_model_state_dict(model, state, ADAPTER)


def _shapes(state: State) -> set[tuple[str, tuple[int, ...]]]:
    return {(key, tuple(value.shape)) for key, value in state.items()}


def _key(layer: str, factor: str) -> str:
    return f"base_model.model.{layer}.lora_{factor}.weight"


def _of_adapter(folder: Path) -> State:
    """A cut adapter, with the scales in B."""
    config = LoraConfig.from_pretrained(str(folder))
    state = load_file(folder / SAFETENSORS_WEIGHTS_NAME)
    for key in list(state):
        pair = lora_pair(key)
        if pair is not None and pair[1] == "B":
            state[key] = state[key] * scale_of(config, pair[0], state[key].shape[1])
    return state


def _searched(record: RankRecord, file: Path, run: Context) -> State:
    """The searched components of each layer with the largest singular values, as many as `record`
    says, with the scale of the search in B; and the head of the search."""
    inside = (f".modules_to_save.{ADAPTER}", f".{ADAPTER}")
    state = {
        key.replace(inside[0], "").replace(inside[1], ""): value
        for key, value in load_file(file).items()
    }
    for name in [pair[0] for key in list(state) if (pair := lora_pair(key)) and pair[1] == "A"]:
        a = state.pop(_key(name, "A"))
        b = state.pop(_key(name, "B"))
        if rank := record.ranks.get(name):
            state[_key(name, "A")] = a[:rank]
            state[_key(name, "B")] = b[:, :rank] * (run.adapted.lora.lora_alpha / len(a))
    return state


@torch.no_grad()
def as_plain_lora(
    trained: PeftModel,
    record: RankRecord,
    updates: Mapping[str, tuple[Tensor, Tensor]],
    run: Context,
) -> Prepared:
    """The base model of `trained`, with the modules that were trained whole, and plain LoRA at the
    ranks of `record`. `updates`: layer -> A [rank, inputs] and B [outputs, rank] with the scale in
    them. `trained` cannot be used afterwards."""
    settings: Any = trained.peft_config[ADAPTER]
    base: Any = trained.unload()
    prepared = _attached(record, base, list(settings.modules_to_save or []), run)
    model: Any = prepared.model
    for name, layer in lora_layers(model).items():
        for factor, value in zip(factors(layer), updates[name], strict=True):
            factor.copy_(value)
        factors(layer)[1].div_(layer.scaling[ADAPTER])
    return prepared


@torch.no_grad()
def cut_to(
    model: PeftModel, bases: Mapping[str, Basis], kept: Mapping[str, int], run: Context
) -> Prepared:
    """`model` with the first components of each layer in these bases, at the ranks `kept`, as plain
    LoRA. `model` cannot be used afterwards. Raises UserError if all ranks are 0."""
    layers = lora_layers(model)
    _, state = cut_adapter(model, ADAPTER, bases, kept)
    updates = {}
    for name in (name for name, rank in kept.items() if rank):
        updates[name] = (
            state[_key(name, "A")],
            state[_key(name, "B")] * layers[name].scaling[ADAPTER],
        )
    return as_plain_lora(
        model, record_of(kept, run.adapted.lora.k, run.config.method), updates, run
    )
