"""The methods: the class of a run's settings -> how the model that is trained is prepared."""

from autolora.configs import schema
from autolora.configs.schema import RunConfig
from autolora.engine.retrain.methods import adalora, adapter, eva, lora, para, whole, wide
from autolora.engine.retrain.prepared import Method

METHODS: dict[type[RunConfig], Method] = {
    schema.Autolora: lora.at_ranks(lora.of_the_run),
    schema.Lora: lora.at_ranks(lora.uniform),
    schema.LoraGrid: lora.at_ranks(lora.of_the_run),
    schema.Optuna: lora.at_ranks(lora.of_the_run),
    schema.LoraRanks: lora.at_ranks(lora.of_another),
    schema.Shuffled: lora.at_ranks(lora.shuffled),
    schema.Random: lora.at_ranks(lora.random),
    schema.Adalora: adalora.prepare,
    schema.Eva: eva.prepare,
    schema.Para: para.prepare,
    schema.Wide: wide.prepare,
    schema.Adapter: adapter.prepare,
    schema.Head: whole.head,
    schema.Full: whole.full,
}
