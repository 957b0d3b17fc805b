"""The methods: how each prepares the model that the retraining trains, and what it saves of it."""

from autolora.configs import schema
from autolora.configs.schema import RunConfig
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

METHODS: dict[type[RunConfig], Method] = {
    schema.Autolora: RankedLora(lora.of_the_run, chosen=False),
    schema.Lora: RankedLora(lora.uniform),
    schema.LoraGrid: RankedLora(lora.of_the_run),
    schema.Optuna: RankedLora(lora.of_the_run),
    schema.LoraRanks: RankedLora(lora.of_another),
    schema.Shuffled: RankedLora(lora.shuffled),
    schema.Random: RankedLora(lora.random),
    schema.Adalora: AdaLora(),
    schema.Eva: Eva(),
    schema.Para: Para(),
    schema.Adapter: Adapter(),
    schema.Head: Head(),
    schema.Full: Full(),
}
