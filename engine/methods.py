"""The methods: the class of a run's settings -> how the model that is trained is prepared."""

from collections.abc import Callable
from functools import partial
from typing import Any

from autolora.configs import schema
from autolora.configs.schema import RunConfig
from autolora.engine.retrain.methods.adalora import AdaLora
from autolora.engine.retrain.methods.adapter import Bottlenecks
from autolora.engine.retrain.methods.eva import EvaLora
from autolora.engine.retrain.methods.lora import (
    AtRanks,
    PlainLora,
    of_another,
    random_like,
    random_within,
    recorded,
    shuffled,
    uniform,
)
from autolora.engine.retrain.methods.para import ParaLora
from autolora.engine.retrain.methods.whole import FullTraining, HeadAlone
from autolora.engine.retrain.methods.wide import WideLora
from autolora.engine.retrain.prepared import Method
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.sources import components_file, ranks_from


def method_of(config: RunConfig, folder: RunFolder) -> Method:
    """The method of a run in `folder`, whose files it reads when it prepares a model."""
    return METHODS[type(config)](config, folder)


def form_of(config: Any, folder: RunFolder) -> PlainLora:
    """How a run that trains LoRA attaches it."""
    start = components_file(config, folder)
    return PlainLora(config.lora, config.retrain.scale, config.model, config.method, start)


def _recorded(config: Any, folder: RunFolder) -> Method:
    return AtRanks(form_of(config, folder), partial(recorded, folder.ranks))


def _uniform(config: Any, folder: RunFolder) -> Method:
    form = form_of(config, folder)
    return AtRanks(form, partial(uniform, config.lora, config.lora.r, form))


def _of_another(config: Any, folder: RunFolder) -> Method:
    form = form_of(config, folder)
    return AtRanks(form, partial(of_another, ranks_from(config), form))


def _shuffled(config: Any, folder: RunFolder) -> Method:
    return AtRanks(form_of(config, folder), partial(shuffled, ranks_from(config), config.seed))


def _random(config: Any, folder: RunFolder) -> Method:
    lora = config.lora
    drawn = partial(random_within, lora, lora.budget, config.seed)
    if lora.ranks_from is not None:
        drawn = partial(random_like, ranks_from(config), config.seed)
    return AtRanks(form_of(config, folder), drawn)


def _wide(config: Any, folder: RunFolder) -> Method:
    return WideLora(
        config.lora,
        form_of(config, folder),
        config.retrain.extra_steps,
        config.evaluation_batch,
        config.data_seed,
        config.task.split_by == "source",
    )


METHODS: dict[type[RunConfig], Callable[[Any, RunFolder], Method]] = {
    schema.Autolora: _recorded,
    schema.LoraGrid: _recorded,
    schema.Optuna: _recorded,
    schema.Lora: _uniform,
    schema.LoraRanks: _of_another,
    schema.Shuffled: _shuffled,
    schema.Random: _random,
    schema.Adalora: lambda config, folder: AdaLora(config.lora, form_of(config, folder)),
    schema.Eva: lambda config, folder: EvaLora(config.lora, form_of(config, folder)),
    schema.Para: lambda config, folder: ParaLora(config.lora, form_of(config, folder)),
    schema.Wide: _wide,
    schema.Adapter: lambda config, folder: Bottlenecks(config.adapter.bottleneck),
    schema.Head: lambda config, folder: HeadAlone(),
    schema.Full: lambda config, folder: FullTraining(),
}
