"""Say that shares cannot be measured on a script's rows, and take a language model's task type from its class."""

from copy import copy
from typing import Any

from peft import LoraConfig, TaskType
from torch import nn
from transformers import PreTrainedModel

from autolora.configs.errors import UserError
from autolora.configs.search import AnswerConfig
from autolora.engine.terminal.console import log

_TASK_OF = {
    "ForCausalLM": TaskType.CAUSAL_LM,
    "LMHeadModel": TaskType.CAUSAL_LM,
    "ForSequenceClassification": TaskType.SEQ_CLS,
    "ForTokenClassification": TaskType.TOKEN_CLS,
}
"""How the name of a model's class ends -> the task type that it was made for."""
NEEDS = (
    "this needs the model's own loss, a lora_config with task_type SEQ_CLS, TOKEN_CLS or CAUSAL_LM, and batches that "
    "have a row of labels for each example (without packing)"
)


def with_task_type(lora_config: LoraConfig, model: nn.Module) -> LoraConfig:
    """The LoraConfig with the task type of a causal language model, if it has none and the model is one.

    With this type PEFT trains the same weights as without one. For a classifier it would train the head, too, so that
    type is never added."""
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


def tell_unmeasured(why: str, answer: AnswerConfig | None) -> None:
    """Says that shares and the curve are not measured: a warning if that changes the rule, as the script names none.

    `answer`: the script's settings, None if it has none. Raises UserError for a rule that needs shares."""
    if answer is None:
        log.warning(
            "answer: shares and the curve are not measured, and rule threshold chooses the ranks by alpha: %s", why
        )
        return
    if answer.needs_evidence:
        rule = "shares" if answer.rule == "shares" else "size with budget auto"
        raise UserError(
            f"answer.rule: {rule} is measured by the log loss of every row, which is not known here: {why}; allowed "
            f"here: threshold, or size with a number as budget"
        )
    log.info("answer: shares and the curve are not measured: %s", why)
