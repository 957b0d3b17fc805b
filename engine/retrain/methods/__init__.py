"""The methods: how each prepares the model that the retraining trains, and what it saves of it."""

from autolora.engine.retrain.methods import lora
from autolora.engine.retrain.methods.adalora import AdaLora
from autolora.engine.retrain.methods.adapter import Adapter
from autolora.engine.retrain.methods.base import Method, Prepared
from autolora.engine.retrain.methods.eva import Eva
from autolora.engine.retrain.methods.full import Full
from autolora.engine.retrain.methods.head import Head
from autolora.engine.retrain.methods.lora import RankedLora
from autolora.engine.retrain.methods.para import Para

__all__ = ["METHODS", "Method", "Prepared"]

# To add a method, also name it in `MethodName` of configs/schema.py, and give it a row in configs/methods.py.
METHODS: dict[str, Method] = {
    "autolora": RankedLora(lora.of_the_run, chosen=False),
    "lora": RankedLora(lora.uniform),
    "lora_grid": RankedLora(lora.of_the_run),
    "optuna": RankedLora(lora.of_the_run),
    "lora_ranks": RankedLora(lora.of_another),
    "lora_shuffled": RankedLora(lora.shuffled),
    "lora_random": RankedLora(lora.random),
    "adalora": AdaLora(),
    "eva": Eva(),
    "para": Para(),
    "adapter": Adapter(),
    "head": Head(),
    "full": Full(),
}
