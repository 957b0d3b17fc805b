"""A plain PEFT adapter folder."""

from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from engine.disk.files import write_text
from problems.models.attach import ADAPTER

ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_CONFIG = "adapter_config.json"

# Plain `from_pretrained` of a GGUF base needs the file's name; PEFT's own card has no place for it.
_GGUF_CARD = """---
library_name: peft
---
A PEFT LoRA adapter of the GGUF file `{file}` in `{base}`, dequantised when loaded (packages peft, transformers, gguf):

```python
from peft import PeftConfig, PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

adapter = "."  # this folder
settings = PeftConfig.from_pretrained(adapter)
base = AutoModelForCausalLM.from_pretrained(
    settings.base_model_name_or_path,
    revision=settings.revision or "main",
    gguf_file=AutoConfig.from_pretrained(adapter).gguf_file,
)
model = PeftModel.from_pretrained(base, adapter)
tokenizer = AutoTokenizer.from_pretrained(adapter)
```
"""


def save_adapter(
    model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: Path, revision: str | None = None
) -> None:
    """A plain PEFT adapter, with the tokenizer and the base's config.json (which knows the classes) beside it.

    `revision`: that of the base on the hub; PEFT itself does not know which one was loaded.
    """
    settings: Any = model.peft_config[ADAPTER]
    settings.revision = revision
    # PEFT keeps them as a set, whose order in the file differs from process to process.
    settings.target_modules = sorted(settings.target_modules)
    model.save_pretrained(str(folder))
    base: Any = model.get_base_model()
    base.config.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    file = getattr(base.config, "gguf_file", None)
    if file is not None:
        write_text(folder / "README.md", _GGUF_CARD.format(base=base.config.name_or_path, file=file))
