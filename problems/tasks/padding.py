"""On which side the rows of a batch are padded."""

from copy import copy
from typing import Any

from transformers import PreTrainedTokenizerBase


def for_batches(tokenizer: PreTrainedTokenizerBase) -> PreTrainedTokenizerBase:
    """The tokenizer, or a copy that pads right where the tokenizer itself pads left.

    With padding on the left a model with absolute positions, such as BERT and GPT-2, reads a row at shifted positions,
    and so its loss depends on the other rows of the batch. A tokenizer that puts its class token last (XLNet's) keeps
    its side: the head of its model reads the last position.
    """
    if tokenizer.padding_side == "right" or _class_token_is_last(tokenizer):
        return tokenizer
    # The tokenizer itself keeps its side: prompts are padded on the left.
    right = copy(tokenizer)
    right.padding_side = "right"
    return right


def _class_token_is_last(tokenizer: PreTrainedTokenizerBase) -> bool:
    ids: Any = tokenizer("a")["input_ids"]
    return len(ids) > 1 and ids[-1] == tokenizer.cls_token_id != ids[0]
