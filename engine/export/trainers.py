"""The lines by which another trainer trains at the ranks of a run: `run.py --show RUN --for
TRAINER`. Imports no torch, so that they are printed at once."""

import json
from collections.abc import Mapping
from typing import Any

from autolora.configs.errors import UserError
from autolora.configs.requests import Trainer
from autolora.engine import ranks
from autolora.engine.store.folder import RunFolder
from autolora.problems.models.names import joined_ranks

_HEAD = """# LoRA at the learned ranks of {run}: mean {mean}
# The base model that was searched: {base}
"""
_UNTRAINED = """# This trainer has no key for ranks (Axolotl: in newer versions): it takes an
# untrained adapter's. This line of PEFT writes it (model: the base):
#   get_peft_model(model, LoraConfig.from_pretrained({config!r})).save_pretrained({untrained!r})
"""
_LINES: Mapping[Trainer, str] = {
    "peft": """from peft import LoraConfig, get_peft_model

model = get_peft_model(model, LoraConfig.from_pretrained({config!r}))
""",
    "trl": """# args: your SFTConfig. TRL's command line has no key for ranks.
from peft import LoraConfig
from trl import SFTTrainer

peft_config = LoraConfig.from_pretrained({config!r})
trainer = SFTTrainer(model=model, args=args, train_dataset=train_dataset, peft_config=peft_config)
""",
    "axolotl": _UNTRAINED
    + """adapter: lora
lora_model_dir: {untrained}
lora_r: {r}
lora_alpha: {alpha}
lora_target_modules: {targets}
""",
    "llama-factory": _UNTRAINED
    + """finetuning_type: lora
adapter_name_or_path: {untrained}
create_new_adapter: false
""",
    "unsloth": """# model: as FastLanguageModel loads it.
# Unsloth's manual does not say that it keeps these ranks.
from peft import LoraConfig
from unsloth import FastLanguageModel

names = "r lora_alpha lora_dropout target_modules modules_to_save rank_pattern alpha_pattern"
settings = LoraConfig.from_pretrained({config!r})
keys = {{name: getattr(settings, name) for name in names.split()}}
model = FastLanguageModel.get_peft_model(model, **keys)
""",
}


def lines_for(trainer: Trainer, folder: RunFolder) -> str:
    """Lines to paste, with comments: Python for PEFT, TRL and Unsloth, YAML for Axolotl and
    LLaMA-Factory.

    Raises UserError without lora_config/, and if it holds other ranks than ranks.json.
    """
    place = folder.lora_config / "adapter_config.json"
    if not place.exists():
        raise UserError(
            f"--for: {place} does not exist; methods autolora, lora_grid and optuna write it"
        )
    record = ranks.load(folder.ranks)
    settings = json.loads(place.read_text(encoding="utf-8"))
    if settings["rank_pattern"] != joined_ranks(record.kept):
        raise UserError(
            f"--for: {folder.ranks} was edited since {place} was written; --stage retrain "
            "writes it again"
        )
    values: dict[str, Any] = {
        "run": folder.root,
        "mean": record.mean_in_words,
        "base": record.base_model or "it has no name on the hub",
        "config": str(folder.lora_config.resolve()),
        "untrained": str(folder.root.resolve() / "adapter_untrained"),
        "r": settings["r"],
        "alpha": round(settings["lora_alpha"]) or 1,
        "targets": json.dumps(settings["target_modules"]),
    }
    parts = (
        "# Not exact: the parts of c_attn share one LoRA here, whose rank is the sum of theirs.\n"
    )
    told = parts if joined_ranks(record.kept) != record.kept else ""
    return (_HEAD + told + _LINES[trainer]).format(**values)
