"""Attach stock PEFT LoRA to a model, and the inner problem over its weights (AutoLoRA Eq. 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from configs.errors import UserError
from configs.schema import LoraSettings
from problems.bilevel import InnerProblem
from problems.gates import ADAPTER, Gates, lora_layers
from problems.layers import HEADS, refuse_past_lora, target_layers
from problems.parts import KeepSparse, layer_ranks, layout


class LoraProblem(InnerProblem):
    """W (LoRA weights and task head) on D_tr. Betty gives it the outer problem as `self.selection`."""

    selection: Any

    def __init__(self, *args: Any, gates: Gates, dropout: bool = True, **options: Any) -> None:
        super().__init__(*args, **options)
        self.gates = gates
        self._dropout = dropout

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        """L_tr of one batch of D_tr at the gates of the current beta. Scalar."""
        return self.loss(batch, self.selection())

    def loss(self, batch: dict[str, Tensor], gates: Tensor) -> Tensor:
        """The task's loss of one batch with `gates` [layers, k] on the LoRA components (Eq. 2). Scalar."""
        with self.gates.open(gates):
            return self.module(**batch).loss

    def train(self) -> None:
        """Training mode; without dropout in the search the model itself stays in evaluation mode."""
        super().train()
        self.module.train(self._dropout)


def lora_config(
    settings: LoraSettings,
    task_type: TaskType,
    trained_whole: Sequence[str],
    **changes: Any,
) -> LoraConfig:
    """PEFT's configuration; `trained_whole` are modules trained and saved whole (the task head)."""
    # PEFT adds these names itself for classification, and would list them twice.
    known_heads = HEADS if task_type in (TaskType.SEQ_CLS, TaskType.TOKEN_CLS) else ()
    fields: dict[str, Any] = {
        "task_type": task_type,
        "r": settings.k,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": settings.dropout,
        "target_modules": list(settings.target_modules),
        "modules_to_save": [name for name in trained_whole if name not in known_heads] or None,
    }
    return LoraConfig(**(fields | changes))


def attach_components(
    model: PreTrainedModel, settings: LoraSettings, task_type: TaskType, trained_whole: Sequence[str]
) -> PeftModel:
    """`model` with k components, each at the scale lora_alpha / k, in every layer or part that the targets name.

    Raises UserError as `target_layers`.
    """
    groups = dict.fromkeys(target_layers(model, settings.target_modules), settings.k)
    ranks = layer_ranks(groups)
    larger = {name: rank for name, rank in ranks.items() if rank != settings.k}
    alphas = {name: settings.lora_alpha * rank / settings.k for name, rank in larger.items()}
    config = lora_config(
        settings, task_type, trained_whole, target_modules=list(ranks), rank_pattern=larger, alpha_pattern=alphas
    )
    peft_model = attach(model, config)
    keep_block_sparse(peft_model, groups)
    return peft_model


def keep_block_sparse(model: PeftModel, ranks: Mapping[str, int]) -> None:
    """From here on the B of a part stays 0 outside its block of outputs; `ranks`: group -> rank. Whole layers are left
    as they are."""
    groups = layout(ranks).values()
    for name, layer in lora_layers(model).items():
        inside = [group for group in groups if group.layer == name and group.part is not None]
        if inside:
            weight: Any = layer.lora_B[ADAPTER].weight
            weight.register_hook(KeepSparse(inside, weight))


def attach(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """`model` frozen, with LoRA and a trainable head.

    Raises UserError as `target_layers`, and for what takes no LoRA in this model or is trained whole.
    """
    modules = dict(model.named_modules())
    targets = target_layers(model, sorted(config.target_modules or []))  # PEFT keeps them as a set
    refuse_past_lora(model, targets)
    _refuse_in_whole(targets, config.modules_to_save or [])
    # PEFT would find out itself, with a warning.
    config.fan_in_fan_out = all(isinstance(modules[name], Conv1D) for name in targets)
    peft_model = get_peft_model(model, config)
    assert isinstance(peft_model, PeftModel)
    return peft_model


def _refuse_in_whole(targets: Sequence[str], trained_whole: Sequence[str]) -> None:
    """PEFT would leave such layers without LoRA and say nothing."""
    for target in targets:
        around = [name for name in trained_whole if f".{name}." in f".{target}."]
        if around:
            raise UserError(f"LoRA on {target} is not allowed: {around[0]} is trained whole (--lora.modules_to_save)")
