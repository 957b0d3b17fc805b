"""An adapter that plain PEFT has saved: what its folder tells, and its base model with it."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import snapshot_download
from peft import PeftModel, get_peft_model_state_dict, load_peft_weights
from peft.utils import CONFIG_NAME
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.problems.machine.hub import explain_missing
from autolora.problems.models.attach import PREFIX
from autolora.problems.models.base import BaseOnDisk
from autolora.problems.models.layers import HEADS

_UNNAMED = "LABEL_"
"""How the names begin that transformers gives classes where nobody has named them."""
_HEADS = {*HEADS, "classification_head", "logits_proj"}
"""What the heads of classifiers and taggers are called."""
_FACTORS = (".lora_A.weight", ".lora_embedding_A")


@dataclass(frozen=True)
class AdapterFolder:
    """The folder of an adapter; its config.json, if there is one, is that of the trained model."""

    path: Path

    @classmethod
    def of(cls, name: str) -> Self:
        """The folder of this name, downloaded from the hub if there is none here. Raises UserError
        for one without an adapter."""
        folder = Path(name).expanduser()
        if not folder.exists():
            with explain_missing("ADAPTER", name):
                folder = Path(snapshot_download(name))
        if not (folder / CONFIG_NAME).exists():
            raise UserError(
                f"{folder}: holds no {CONFIG_NAME}; give an adapter's folder, such as "
                "runs/X/adapter"
            )
        return cls(folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """PEFT's adapter_config.json."""
        return self._read(CONFIG_NAME)

    @property
    def base(self) -> str | None:
        """The name of the base model; of one in a GGUF file, the path of that file."""
        name: str | None = self.config.get("base_model_name_or_path")
        file = self._read("config.json").get("gguf_file")
        return f"{name}/{file}" if name and file else name

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes in the order of the head's outputs; none if nobody named
        them."""
        return class_names(self._read("config.json"))

    @cached_property
    def weights(self) -> dict[str, Tensor]:
        """All that was trained, by the names in the file. Raises UserError if it cannot be read."""
        with explain_missing("ADAPTER", str(self.path)):
            return load_peft_weights(str(self.path), device="cpu")

    @property
    def outputs(self) -> int | None:
        """How many numbers the head gives that was saved with the adapter; None if none was.

        A head ends in its smallest matrix."""
        of_head = [
            len(value)
            for name, value in self.weights.items()
            if value.dim() == 2 and "lora_" not in name and not _HEADS.isdisjoint(name.split("."))
        ]
        return min(of_head, default=None)

    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """The tokenizer and the template of the folder; None if it has none."""
        if not (self.path / "tokenizer_config.json").exists():
            return None
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.path)
        tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
        return tokenizer

    def load(self, base: BaseOnDisk, device: torch.device) -> tuple[PeftModel, dict[str, Tensor]]:
        """The base model with this adapter, by plain PEFT; and the base's own values of the biases
        that the adapter trained, as `Lora` takes them.

        Raises UserError if the two do not fit."""
        name = base.settings.name
        stock = base.stock()
        biases = {
            name: value.detach().clone()
            for name, value in stock.model.named_parameters()
            if name.endswith("bias")
        }
        for new in stock.new:
            if not any(f".{new}." in key for key in self.weights if "lora_" not in key):
                raise UserError(
                    f"{self.path}: neither it nor {name} holds the weights of {new}, which would "
                    "be random; train with modules_to_save"
                )
        try:
            model = PeftModel.from_pretrained(stock.model, str(self.path))
        except (RuntimeError, ValueError) as error:
            told = " ".join(str(error).split())[:300]
            raise UserError(f"{self.path}: PEFT cannot load it on {name}: {told}") from error
        self._refuse_other_layers(model, name)
        trained: dict[str, Tensor] = {}
        for parameter, value in model.named_parameters():
            before = biases.get(parameter.removeprefix(PREFIX).replace(".base_layer", ""))
            if before is not None and not torch.equal(before, value):
                trained[parameter] = before.to(device)
        model.to(device)
        return model.eval(), trained

    def _refuse_other_layers(self, model: PeftModel, base: str) -> None:
        """Raises UserError if the file has factors of other layers than the model: PEFT would leave
        them as they were made."""
        own, in_file = (
            {key for key in state if key.endswith(_FACTORS)}
            for state in (get_peft_model_state_dict(model), self.weights)
        )
        if own != in_file:
            layer = min(own ^ in_file).removeprefix(PREFIX)
            raise UserError(
                f"{self.path}: is of another base than {base}: only one of the two has {layer}"
            )

    def _read(self, name: str) -> dict[str, Any]:
        path = self.path / name
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def class_names(config: dict[str, Any] | PreTrainedConfig) -> tuple[str, ...]:
    """The names of the classes in a model's configuration, in the order of their numbers; none if
    nobody named them."""
    settings = config if isinstance(config, dict) else config.to_dict()
    names = settings.get("id2label") or {}
    ordered = tuple(str(names[number]) for number in sorted(names, key=int))
    return () if any(name.startswith(_UNNAMED) for name in ordered) else ordered
