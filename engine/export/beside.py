"""The files beside the weights of an adapter or a whole model: the tokenizer's, and generation_config.json."""

import json
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from autolora.engine.disk.files import write_json
from autolora.problems.tasks.padding import for_batches

GENERATION_CONFIG = "generation_config.json"


def save_beside(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, ends: Sequence[int] = ()
) -> None:
    """Writes the tokenizer as `save_tokenizer` does and, for a language model, generation_config.json.

    `ends`: the tokens that end an answer, at which programs that read that file then stop; empty: the base's own.
    """
    # What reads whole rows pads on the side on which it was trained; what writes texts keeps the tokenizer's own side.
    save_tokenizer(tokenizer if model.can_generate() else for_batches(tokenizer), folder)
    if ends:
        settings: Any = model.generation_config
        # Not by save_pretrained: in a changed configuration it would refuse what it accepts in an unchanged one, such
        # as a temperature without sampling.
        text = settings.to_json_string(use_diff=True, keys_to_pop=["compile_config"])
        stops = ends[0] if len(ends) == 1 else list(ends)
        write_json(folder / GENERATION_CONFIG, json.loads(text) | {"eos_token_id": stops})


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes the tokenizer without the truncation and padding of its last call; the tokenizer itself keeps them.

    tokenizer.json would have them, and programs that read this file alone would cut and pad their texts by them.
    """
    plain: Any = tokenizer
    if tokenizer.is_fast:
        plain = deepcopy(tokenizer)
        plain.backend_tokenizer.no_truncation()
        plain.backend_tokenizer.no_padding()
    plain.save_pretrained(str(folder))
