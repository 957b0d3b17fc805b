"""The methods: how to build the model that the one trainer trains, and what is kept of it."""

from __future__ import annotations

from engine.retrain.methods.adalora import AdaLora
from engine.retrain.methods.adapter import Adapter
from engine.retrain.methods.base import Method, Prepared, Setting
from engine.retrain.methods.full import Full
from engine.retrain.methods.lora import Chosen, Learned, Random, Shuffled, Uniform
from engine.run.folder import RunFolder

__all__ = ["METHODS", "Method", "Prepared", "Setting", "refuse_other_ranks"]

METHODS: dict[str, Method] = {
    "autolora": Learned(),
    "lora": Uniform(),
    "lora_grid": Chosen(),
    "lora_shuffled": Shuffled(),
    "lora_random": Random(),
    "adalora": AdaLora(),
    "adapter": Adapter(),
    "full": Full(),
}


def refuse_other_ranks(name: str, folder: RunFolder) -> None:
    """Raises UserError when the folder holds another method's ranks.json."""
    METHODS[name].refuse_other_ranks(folder, {rule for method in METHODS.values() for rule in method.rules or ()})
