"""Refuse rows that are the name of a file, and rows without a collator, in a line that says what to write."""

from typing import Any

from peft import TaskType

from autolora.configs.errors import UserError
from autolora.engine.api.unmeasured import made_for

_COLLATORS = {
    TaskType.TOKEN_CLS: "DataCollatorForTokenClassification",
    TaskType.CAUSAL_LM: "DataCollatorForSeq2Seq",
}
"""The collator of transformers that pads the labels of each example, too."""


def refuse_text(name: str, rows: Any) -> None:
    """Raises UserError for rows that are a text, which has a length and an index as rows have: of its letters.

    `name`: the argument that gave them."""
    if isinstance(rows, str | bytes):
        raise UserError(
            f"{name}: the text {rows!r:.60} is not allowed; allowed: rows that are loaded, such as a list or a "
            f"datasets.Dataset (datasets.load_dataset reads files)"
        )


def required_collate(collate: Any, lora_config: Any, model: Any) -> Any:
    """The collator. Raises UserError if there is none: a search cannot make one without the tokenizer, which a model
    does not have. The message names the collator of transformers for this task."""
    if collate is not None:
        return collate
    task: Any = getattr(lora_config, "task_type", None) or made_for(model)
    raise UserError(
        f"collate: is missing; allowed: a function that makes a dict of tensors from a list of examples, such as "
        f"transformers.{_COLLATORS.get(task, 'DataCollatorWithPadding')}(tokenizer) for examples with "
        f"input_ids and labels"
    )
