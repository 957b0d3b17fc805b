"""The result as other programs load it: a plain PEFT adapter, merged weights, an adapter padded to one rank."""

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from configs.rules import SEARCHING
from configs.schema import RunConfig
from engine import ranks
from engine.export.adapter import save_adapter
from engine.export.lora_config import save_lora_config
from engine.export.merged import save_merged, save_whole
from engine.export.padded import save_padded
from engine.run.folder import RunFolder
from problems.models.attach import ADAPTER

__all__ = ["save_adapter", "save_all", "save_merged", "save_padded", "save_whole"]


def save_all(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: RunFolder, config: RunConfig) -> None:
    """adapter/, and adapter_padded/ and merged/ where `config` asks for them; merging consumes `model`.

    A search's lora_config/ is written again, as its ranks may have been edited.
    """
    save_adapter(model, tokenizer, folder.adapter, config.model.revision)
    if config.method in SEARCHING:
        save_lora_config(model.peft_config[ADAPTER], ranks.load(folder.ranks), folder.lora_config, config)
    if config.export.padded:
        save_padded(folder.adapter, folder.padded)
    if config.export.merged:
        save_merged(model, tokenizer, folder.merged)
