"""Learn the ranks of a script's model on the script's rows."""

from collections.abc import Mapping
from typing import Any

from peft import LoraConfig
from torch import nn

from autolora.configs.search import AnswerConfig, HypergradientConfig, SearchConfig
from autolora.engine.api.learned import LearnedRanks
from autolora.engine.api.learning import Collator, Precision, Source, learn, settings_of
from autolora.engine.api.rows_given import required_collate
from autolora.problems.tasks.kind import Loss


def learn_ranks(
    model: nn.Module,
    train_dataset: Any,
    lora_config: LoraConfig,
    *,
    collate: Collator | None = None,
    validation_dataset: Any = None,
    loss: Loss | None = None,
    search: SearchConfig | Mapping[str, Any] | None = None,
    hypergradient: HypergradientConfig | Mapping[str, Any] | None = None,
    answer: AnswerConfig | Mapping[str, Any] | None = None,
    seed: int = 0,
    precision: Precision = "auto",
) -> LearnedRanks:
    """The LoRA rank of every layer of `model` that `lora_config` targets, found by bilevel search.

    `lora_config.r` is k, the rank that every layer has at the start. `train_dataset` has a length and an index;
    `collate`, which must be given, turns a list of its examples into a dict of tensors. `validation_dataset`: the rows
    that alpha is learned from; None: half of the train rows, drawn by seed. `loss`: model and batch -> the mean loss,
    a scalar; None: `model(**batch).loss`. `answer` None: rule `shares`, or `threshold` if the loss does not tell the
    log loss of each row. The search runs on the model's device. It leaves the model as it found it, also after an
    error.

    `search` None: three passes over the rows that train the LoRA weights, but 100 to 2,000 steps, with an outer step
    after every fourth.

    `search`, `hypergradient`, `answer`: keys and values of these sections, such as {"type": "darts", "eta": "lr"}.

    Raises UserError, one line, for what the caller must change.
    """
    given = required_collate(collate, lora_config, model)
    rows = Source(train_dataset, validation_dataset, given, loss, plain=loss is None)
    settings = settings_of(search, hypergradient, answer, seed, precision)
    return learn(model, lora_config, rows, settings)
