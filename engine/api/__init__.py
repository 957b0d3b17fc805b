"""For scripts: learn the LoRA ranks of a model that is already loaded, on rows that the script gives (docs/api.md)."""

from autolora.configs.errors import UserError
from autolora.engine.api.adapter import MeasuredAdapter, measure_adapter
from autolora.engine.api.learned import LearnedRanks
from autolora.engine.api.learning import learn_ranks
from autolora.engine.api.trainer import learn_ranks_from_trainer

__all__ = [
    "LearnedRanks", "MeasuredAdapter", "UserError",
    "learn_ranks", "learn_ranks_from_trainer", "measure_adapter",
]  # fmt: skip
