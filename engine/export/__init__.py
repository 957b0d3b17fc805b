"""The result as other programs load it: a plain PEFT adapter, merged weights, an adapter padded to one rank."""

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from configs.schema import RunConfig
from engine.export.adapter import save_adapter
from engine.export.merged import save_merged, save_whole
from engine.export.padded import save_padded
from engine.run.folder import RunFolder

__all__ = ["save_adapter", "save_all", "save_merged", "save_padded", "save_whole"]


def save_all(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: RunFolder, config: RunConfig) -> None:
    """adapter/, and adapter_padded/ and merged/ where `config` asks for them; merging consumes `model`."""
    save_adapter(model, tokenizer, folder.adapter, config.model.revision)
    if config.export.padded:
        save_padded(folder.adapter, folder.padded)
    if config.export.merged:
        save_merged(model, tokenizer, folder.merged)
