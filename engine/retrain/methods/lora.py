"""Plain PEFT LoRA at given ranks: learned by a search, chosen by trials, the same everywhere,
shuffled, or random."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
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
from autolora.configs.training import LoraSettings, ModelConfig, ScaledLora
from autolora.engine import ranks
from autolora.engine.export.adapter import save_all
from autolora.engine.export.lora_config import adapter_config, attach_ranks
from autolora.engine.measure.bases import Basis, parameters_of
from autolora.engine.measure.cut import cut_adapter, lora_pair, scale_of
from autolora.engine.measure.lora import Lora
from autolora.engine.ranks import RankRecord
from autolora.engine.retrain import controls
from autolora.engine.retrain.controls import record_of
from autolora.engine.retrain.prepared import Prepared, Training
from autolora.engine.world import World
from autolora.problems.machine.draws import seed_of
from autolora.problems.models.attach import ADAPTER, factors, lora_layers
from autolora.problems.models.fused import split
from autolora.problems.models.layers import layer_shapes, lora_layers_of
from autolora.problems.models.load import BaseModel

State = dict[str, Tensor]
"""The weights of an adapter, named as in PEFT's files."""


@dataclass(frozen=True)
class PlainLora:
    """How plain LoRA is attached, whatever its ranks are.

    `scale`: as retrain.scale names it. `model`: names the base. `method`: the rule that a record of
    ranks has which a method has made. `start`: weights of a search, or of a cut adapter, from which
    the training starts; None: fresh ones.
    """

    lora: ScaledLora
    scale: str
    model: ModelConfig
    method: str
    start: Path | None = None

    def at(self, record: RankRecord, base: BaseModel, training: Training) -> Prepared:
        """`base` with LoRA at the ranks of a record. Raises UserError if the ranks do not fit the
        model."""
        ranks.check_against(record, layer_shapes(base.model), Path("--lora"))
        prepared = self.attached(record, base.model, base.trained_whole, training)
        model: Any = prepared.model
        start_in_common(model, training.seed)
        if self.start is not None:
            cut = self.start.name == SAFETENSORS_WEIGHTS_NAME
            state = (
                _of_adapter(self.start.parent)
                if cut
                else _searched(record, self.start, self.lora.lora_alpha)
            )
            start_from(model, state, self.start)
        return prepared

    def attached(
        self, record: RankRecord, model: PreTrainedModel, whole: list[str], training: Training
    ) -> Prepared:
        """A model with LoRA as PEFT initialises it. `whole`: the modules that are trained whole."""
        count = ranks.count_parameters(record.kept, layer_sizes(model))
        record = ranks.with_scale(
            dataclasses.replace(record, lora_parameters=count), self.lora, self.scale, self.model
        )
        settings = adapter_config(record, self.lora, training.scoring.peft_type, whole)
        peft_model = attach_ranks(model, settings, record)
        return Prepared(peft_model, record, save=partial(save_all, peft_model, record))

    def named(self, kept: Mapping[str, int], k: int) -> RankRecord:
        """The record of ranks that the method has made."""
        return record_of(kept, k, self.method)


@dataclass(frozen=True)
class AtRanks:
    """Training at ranks that are known before it. `ranks`: gives them for a model; raises UserError
    that names their file if they do not fit."""

    form: PlainLora
    ranks: Callable[[PreTrainedModel], RankRecord]

    def prepare(self, base: BaseModel, training: Training, world: World) -> Prepared:
        """See Method."""
        return self.form.at(self.ranks(base.model), base, training)


def recorded(path: Path, model: PreTrainedModel) -> RankRecord:
    """The ranks in a file, which a search or trials chose, or someone wrote by hand. Raises
    UserError if they do not fit the model."""
    record = ranks.load(path)
    split(model, record.ranks)
    ranks.check_against(record, layer_shapes(model), path)
    return record


def uniform(lora: LoraSettings, rank: int, form: PlainLora, model: PreTrainedModel) -> RankRecord:
    """The usual LoRA: one rank in every layer that the target modules match."""
    return form.named(dict.fromkeys(lora_layers_of(model, lora), rank), lora.k)


def of_another(path: Path, form: PlainLora, model: PreTrainedModel) -> RankRecord:
    """The ranks of another run, unchanged."""
    given = recorded(path, model)
    return form.named(given.ranks, given.k)


def shuffled(path: Path, seed: int, model: PreTrainedModel) -> RankRecord:
    """A control for whether it matters which layer has which rank: the ranks of another run,
    permuted by the seed among layers of one size."""
    return controls.shuffled(recorded(path, model), layer_sizes(model), seed)


def random_like(path: Path, seed: int, model: PreTrainedModel) -> RankRecord:
    """A control for whether learned ranks beat random ones: random ranks with as many parameters as
    those of another run."""
    like = recorded(path, model)
    all_shapes = layer_shapes(model)
    shapes = {name: all_shapes[name] for name in like.ranks}
    budget = ranks.count_parameters(like.kept, layer_sizes(model))
    return controls.random_ranks(shapes, budget, like.k, seed)


def random_within(
    lora: LoraSettings, budget: float, seed: int, model: PreTrainedModel
) -> RankRecord:
    """Random ranks within a budget, which is an average rank."""
    all_shapes = layer_shapes(model)
    shapes = {name: all_shapes[name] for name in lora_layers_of(model, lora)}
    limit = parameters_of(budget, [sum(shape) for shape in shapes.values()])
    return controls.random_ranks(shapes, limit, lora.k, seed)


def layer_sizes(model: Any) -> dict[str, int]:
    """Name -> inputs + outputs of every layer that could take LoRA: the parameters of one
    component."""
    return {name: sum(shape) for name, shape in layer_shapes(model).items()}


def wide_lora(lora: LoraSettings, form: PlainLora, base: BaseModel, training: Training) -> Prepared:
    """`base` with LoRA of rank k in every layer, of which a method keeps less in the end: its ranks
    are unknown yet."""
    prepared = form.at(uniform(lora, lora.k, form, base.model), base, training)
    return dataclasses.replace(prepared, record=None)


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


def _searched(record: RankRecord, file: Path, lora_alpha: float) -> State:
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
            state[_key(name, "B")] = b[:, :rank] * (lora_alpha / len(a))
    return state


@torch.no_grad()
def as_plain_lora(
    trained: PeftModel,
    record: RankRecord,
    updates: Mapping[str, tuple[Tensor, Tensor]],
    form: PlainLora,
    training: Training,
) -> Prepared:
    """The base model of `trained`, with the modules that were trained whole, and plain LoRA at the
    ranks of `record`. `updates`: layer -> A [rank, inputs] and B [outputs, rank] with the scale in
    them. `trained` cannot be used afterwards."""
    settings: Any = trained.peft_config[ADAPTER]
    base: Any = trained.unload()
    prepared = form.attached(record, base, list(settings.modules_to_save or []), training)
    model: Any = prepared.model
    for name, layer in lora_layers(model).items():
        for factor, value in zip(factors(layer), updates[name], strict=True):
            factor.copy_(value)
        factors(layer)[1].div_(layer.scaling[ADAPTER])
    return prepared


@torch.no_grad()
def cut_to(
    lora: Lora,
    bases: Sequence[Basis],
    kept: Sequence[int],
    k: int,
    form: PlainLora,
    training: Training,
) -> Prepared:
    """The model of `lora` with the first components of each layer in these bases, at the ranks
    `kept`, as plain LoRA; `k`: its rank before. The model cannot be used afterwards. Raises
    UserError if all ranks are 0."""
    _, state = cut_adapter(lora, bases, kept)
    updates = {}
    for layer, rank in zip(lora.layers, kept, strict=True):
        if rank:
            b = state[_key(layer.name, "B")] * layer.scaling
            updates[layer.name] = (state[_key(layer.name, "A")], b)
    record = form.named(dict(zip(lora.names, kept, strict=True)), k)
    return as_plain_lora(lora.model, record, updates, form, training)
