"""Say why shares cannot be measured on a script's rows, and take a language model's task type from its class."""

from copy import copy
from typing import Any

from peft import LoraConfig, TaskType
from torch import nn
from transformers import PreTrainedModel

from autolora.configs.errors import UserError
from autolora.configs.facts import needs_evidence
from autolora.configs.schema_answer import AnswerConfig
from autolora.engine.terminal.console import log
from autolora.problems.tasks.given import GivenKind, GivenRows

_TASK_OF = {
    "ForCausalLM": TaskType.CAUSAL_LM,
    "LMHeadModel": TaskType.CAUSAL_LM,
    "ForSequenceClassification": TaskType.SEQ_CLS,
    "ForTokenClassification": TaskType.TOKEN_CLS,
}
"""How the name of a model's class ends -> the task type that it was made for."""
_MEASURED = {TaskType.SEQ_CLS: 1, TaskType.TOKEN_CLS: 2, TaskType.CAUSAL_LM: 2}
"""The task types for which shares are measured, and the dimensions of their labels in a batch."""
_TRIED = 2
"""Examples in the batch whose labels are looked at."""


def with_task_type(lora_config: LoraConfig, model: nn.Module) -> LoraConfig:
    """The LoraConfig with the task type of a causal language model, if it has none and the model is one.

    With this type PEFT trains the same weights as without one. For a classifier it would train the head, too, so that
    type is never added, only advised (`why_unmeasured`)."""
    if lora_config.task_type is not None or made_for(model) != TaskType.CAUSAL_LM:
        return lora_config
    log.info("lora_config: has no task_type; CAUSAL_LM is taken, as the model is a %s", type(model).__name__)
    completed = copy(lora_config)
    completed.task_type = TaskType.CAUSAL_LM
    return completed


def made_for(model: Any) -> TaskType | None:
    """The task type that a model of transformers was made for; None if its class does not tell."""
    if not isinstance(model, PreTrainedModel):
        return None
    found = next((task for end, task in _TASK_OF.items() if type(model).__name__.endswith(end)), None)
    # PEFT needs this method for the task type CAUSAL_LM.
    generates = hasattr(model, "prepare_inputs_for_generation")
    return None if found == TaskType.CAUSAL_LM and not generates else found


def why_unmeasured(kind: GivenKind, model: nn.Module, rows: GivenRows, *, plain: bool) -> str:
    """A clause that says why the log loss of each row is not known, and how to change that; "" if it is known.

    `plain`: whether the loss is the model's own, without one that the script or the trainer puts in its place."""
    if kind.tells_rows:
        return ""
    if not plain:
        return "the loss is not the model's own"
    if kind.peft_type is None:
        task = made_for(model)
        one_of = ", ".join(repr(known.value) for known in _MEASURED)
        advice = f"one of {one_of}" if task is None else f"task_type={task.value!r}"
        head = ", with which PEFT trains the head, too" if task in (TaskType.SEQ_CLS, TaskType.TOKEN_CLS) else ""
        return f"lora_config has no task_type; give {advice}{head}"
    if kind.peft_type not in _MEASURED:
        return f"task_type {kind.peft_type.value} is none of {', '.join(task.value for task in _MEASURED)}"
    return _about_labels(kind.peft_type, rows)


def _about_labels(task: TaskType, rows: GivenRows) -> str:
    """What it is about the labels of a batch that hides the log loss of each row."""
    count = min(_TRIED, len(rows))
    labels = rows.collate(rows.__getitems__(range(count))).get("labels")
    if labels is None:
        return "the batches have no labels"
    if len(labels) < count:
        return "the batches are packed; packing=False and padding_free=False give each example a row of its own"
    if len(labels) > count or labels.dim() != _MEASURED[task]:
        wanted = f"[{count}]" if _MEASURED[task] == 1 else f"[{count}, tokens]"
        return f"the labels of {count} examples have the shape {list(labels.shape)}; {task.value} needs {wanted}"
    return f"the labels are no whole numbers, which {task.value} needs"


def tell_unmeasured(why: str, answer: AnswerConfig | None) -> None:
    """Says that shares and the curve are not measured: a warning if that changes the rule, as the script names none.

    `answer`: the script's settings, None if it has none. Raises UserError for a rule that needs shares."""
    if answer is None:
        log.warning(
            "answer: shares and the curve are not measured, and rule threshold chooses the ranks by alpha: %s", why
        )
        return
    if needs_evidence(answer):
        rule = "shares" if answer.rule == "shares" else "size with budget auto"
        raise UserError(
            f"answer.rule: {rule} is measured by the log loss of every row, which is not known here: {why}; allowed "
            f"here: threshold, or size with a number as budget"
        )
    log.info("answer: shares and the curve are not measured: %s", why)
