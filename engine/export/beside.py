"""The files beside the weights of an adapter or a whole model: the tokenizer's, and generation_config.json."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.disk.files import write_json

GENERATION_CONFIG = "generation_config.json"


def save_beside(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, folder: Path, ends: Sequence[int] = ()
) -> None:
    """Writes the tokenizer and, for a language model, generation_config.json.

    `ends`: the tokens that end an answer, at which programs that read that file then stop; empty: the base's own.
    """
    tokenizer.save_pretrained(str(folder))
    if ends:
        settings: Any = model.generation_config
        # Not by save_pretrained: in a changed configuration it would refuse what it accepts in an unchanged one, such
        # as a temperature without sampling.
        text = settings.to_json_string(use_diff=True, keys_to_pop=["compile_config"])
        stops = ends[0] if len(ends) == 1 else list(ends)
        write_json(folder / GENERATION_CONFIG, json.loads(text) | {"eos_token_id": stops})
