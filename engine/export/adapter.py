"""A plain PEFT adapter folder."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from autolora.engine.export.beside import save_beside
from autolora.problems.models.attach import ADAPTER


def save_adapter(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, revision: str | None = None,
    ends: Sequence[int] = (),
) -> None:  # fmt: skip
    """Writes a plain PEFT adapter, with the tokenizer and the base's config.json (which names the classes) beside it.

    `revision`: the base model's revision on the hub; PEFT itself does not know which one was loaded. `ends`: see
    `save_beside`.
    """
    settings: Any = model.peft_config[ADAPTER]
    settings.revision = revision
    # PEFT keeps them as a set, whose order in the file differs from process to process.
    settings.target_modules = sorted(settings.target_modules)
    # The adapter is loaded from other folders than the one in which the run was started.
    base_folder = Path(settings.base_model_name_or_path or "")
    if settings.base_model_name_or_path and base_folder.exists():
        settings.base_model_name_or_path = str(base_folder.resolve())
    # By default PEFT would add the frozen weight of an output embedding that has LoRA.
    model.save_pretrained(str(folder), save_embedding_layers=False)
    base: Any = model.get_base_model()
    settings = copy(base.config)
    if hasattr(settings, "quantization_config"):  # of a base in 4 bits; the adapter fits the plain base, too
        del settings.quantization_config
    settings.save_pretrained(str(folder))
    save_beside(base, tokenizer, folder, ends)
