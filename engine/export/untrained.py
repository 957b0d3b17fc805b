"""An adapter at the learned ranks with B = 0, for trainers that start from an adapter and take its ranks."""

import logging

from peft import PeftModel
from transformers import set_seed

from autolora.engine import ranks
from autolora.engine.disk.files import read_json, remove, write_json, write_text
from autolora.engine.export.adapter import save_adapter
from autolora.engine.export.lora_config import adapter_config, attach_ranks, save_lora_config
from autolora.engine.export.names import ADAPTER_CONFIG, what_parts_lose
from autolora.engine.ranks import RankRecord
from autolora.engine.run.context import Context
from autolora.problems.models.attach import ADAPTER
from autolora.problems.models.layers import layer_shapes

log = logging.getLogger("autolora")

_README = """---
library_name: peft
---
A PEFT LoRA adapter at the learned ranks in `ranks.json` beside this folder, not trained: B is 0, so that it computes
what the base model computes. Programs that train an existing adapter further (PEFT, TRL, LLaMA-Factory, Unsloth,
Axolotl's `lora_model_dir`) take the ranks from it.

```python
from peft import PeftModel

model = PeftModel.from_pretrained(model, ".", is_trainable=True)  # model: the base model; ".": this folder
```
{parts}"""


def save_untrained(run: Context) -> None:
    """Writes adapter_untrained/ at the ranks in ranks.json, its README.md last, and lora_config/ at the same ranks.

    All processes must call this.

    Raises UserError when the ranks do not fit the model.
    """
    record = ranks.load(run.folder.ranks)
    model = _untrained(run, record)
    if run.processes.first:
        # The search wrote it at the ranks that it chose; ranks.json may have been edited since.
        save_lora_config(model.peft_config[ADAPTER], record, run.folder.lora_config, run.config)
        _save(model, record, run)
    del model
    run.compute.let_go()


def _untrained(run: Context, record: RankRecord) -> PeftModel:
    """The base model with fresh LoRA at the ranks of a record."""
    log.info("export: writing an untrained adapter at the learned ranks")
    set_seed(run.config.seed)
    base = run.base()
    ranks.check_against(record, layer_shapes(base.model), run.folder.ranks)
    return attach_ranks(base.model, adapter_config(run.config, record, run.task, base.trained_whole), record)


def _save(model: PeftModel, record: RankRecord, run: Context) -> None:
    folder = run.folder.untrained
    # With --overwrite its files may be hard links to those of the old results, which writing into them would change.
    remove(folder)
    save_adapter(model, run.tokenizer, folder, run.config.model.revision, run.ends)
    settings = folder / ADAPTER_CONFIG
    write_json(settings, read_json(settings) | {"inference_mode": False})
    lost = what_parts_lose(record)
    write_text(run.folder.untrained_card, _README.format(parts=f"\n{lost}\n" if lost else ""))
