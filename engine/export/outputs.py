"""Write the result in the forms that other programs load: a plain PEFT adapter, an adapter padded to one rank, merged
weights, and the ranks without weights."""

import logging
from collections.abc import Sequence

from peft import PeftModel
from safetensors import safe_open
from transformers import PreTrainedTokenizerBase

from autolora.configs.schema import WithLora
from autolora.engine import ranks
from autolora.engine.cut.cut import lora_pair
from autolora.engine.export.adapter import save_adapter
from autolora.engine.export.lora_config import save_lora_config
from autolora.engine.export.merged import save_merged
from autolora.engine.export.names import ADAPTER_WEIGHTS
from autolora.engine.export.padded import base_shapes, modules_of, save_padded
from autolora.engine.run.folder import RunFolder
from autolora.problems.models.attach import ADAPTER

log = logging.getLogger("autolora")


def save_all(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    folder: RunFolder,
    config: WithLora,
    ends: Sequence[int] = (),
) -> None:
    """Writes adapter/, and adapter_padded/ and merged/ if `config` asks for them.

    For a method that searches, also writes lora_config/ again, because the user may have edited the ranks. Merging
    makes `model` unusable. `ends`: the tokens that end a language model's answer.
    """
    save_adapter(model, tokenizer, folder.adapter, config.model.revision, ends)
    if config.searches:
        save_lora_config(model.peft_config[ADAPTER], ranks.load(folder.ranks), folder.lora_config, config)
    if config.writes_padded:
        save_padded(folder.adapter, folder.padded, base_shapes(model), modules_of(model))
        _tell_of_servers(folder)
    if config.export.merged:
        save_merged(model, tokenizer, folder.merged, ends)


def _tell_of_servers(folder: RunFolder) -> None:
    """Warns which servers do not load modules that are trained whole, if the adapter holds any."""
    with safe_open(folder.padded / ADAPTER_WEIGHTS, "pt") as file:
        names: list[str] = list(file.keys())
    if any(lora_pair(name) is None for name in names):
        log.warning(
            "export: %s also holds modules trained whole: vLLM refuses such an adapter, TGI ignores these modules; "
            "merged/ (--export.merged true) works in both", folder.padded,
        )  # fmt: skip
