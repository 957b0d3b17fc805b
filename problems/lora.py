"""Attach stock PEFT LoRA to a model, and the inner problem over its weights (AutoLoRA Eq. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from torch import Tensor
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from configs.errors import UserError
from configs.schema import LoraSettings
from problems.bilevel import InnerProblem
from problems.gates import Gates


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
    known_heads = {"classifier", "score"} if task_type in (TaskType.SEQ_CLS, TaskType.TOKEN_CLS) else set()
    fields: dict[str, Any] = {
        "task_type": task_type,
        "r": settings.k,
        "lora_alpha": settings.lora_alpha,
        "lora_dropout": settings.dropout,
        "target_modules": list(settings.target_modules),
        "modules_to_save": [name for name in trained_whole if name not in known_heads] or None,
    }
    return LoraConfig(**(fields | changes))


def attach(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """`model` frozen, with LoRA and a trainable head.

    Raises UserError when a target matches no module, with the names that exist.
    """
    modules = dict(model.named_modules())
    targets = target_layers(model, sorted(config.target_modules or []))  # PEFT keeps them as a set
    # PEFT would find out itself, with a warning.
    config.fan_in_fan_out = all(isinstance(modules[name], Conv1D) for name in targets)
    peft_model = get_peft_model(model, config)
    assert isinstance(peft_model, PeftModel)
    return peft_model


def target_layers(model: PreTrainedModel, targets: Sequence[str]) -> list[str]:
    """Names of the layers that `targets` (names or their endings) match, in the model's order; errors as `attach`."""
    missing = [t for t in targets if not _matches(model, t)]
    if missing:
        endings = sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules() if _takes_lora(module)})
        raise UserError(
            f"--lora.target_modules: {', '.join(missing)} matches no module of {model.config.name_or_path}; "
            f"there are: {', '.join(endings)}"
        )
    return [
        name
        for name, module in model.named_modules()
        if _takes_lora(module) and any(name == t or name.endswith(f".{t}") for t in targets)
    ]


def refuse_large_k(model: PreTrainedModel, settings: LoraSettings) -> None:
    """Raises UserError, naming the layer, when k exceeds the smaller side of a layer: its update has no such rank."""
    modules = dict(model.named_modules())
    for name in target_layers(model, settings.target_modules):
        smallest = min(matrix_shape(modules[name]))
        if settings.k > smallest:
            raise UserError(f"--lora.k: {settings.k} is not allowed for layer {name}; allowed: 1 to {smallest}")


def matrix_shape(module: Any) -> tuple[int, int]:
    """(outputs, inputs) of a layer; a weight in 4 bits is packed, and GPT-2's Conv1D stores it the other way round."""
    if hasattr(module, "out_features") and hasattr(module, "in_features"):
        return module.out_features, module.in_features
    rows, columns = module.weight.shape[:2]
    return (columns, rows) if isinstance(module, Conv1D) else (rows, columns)


def _matches(model: PreTrainedModel, target: str) -> bool:
    """PEFT's rule: the full name of a module or its ending after a dot."""
    return any(
        _takes_lora(module) and (name == target or name.endswith(f".{target}"))
        for name, module in model.named_modules()
    )


def _takes_lora(module: Any) -> bool:
    """Linear layers, quantised ones, Conv1D and embeddings: whatever has one weight matrix."""
    weight = getattr(module, "weight", None)
    return weight is not None and weight.dim() >= 2
