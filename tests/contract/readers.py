"""Readers of what a run leaves: its folder's files, and its adapter in the hands of plain PEFT."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
import yaml
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
)

HEADS = {
    "SEQ_CLS": AutoModelForSequenceClassification,
    "TOKEN_CLS": AutoModelForTokenClassification,
    "CAUSAL_LM": AutoModelForCausalLM,
}
DRAWN = ("report.html", "figures/", "log.txt", "README.md")
"""What tells seconds, or when something happened."""
COSTS = ("peak_memory_mib", "ended", "files", "base_files")
"""Keys of memory and times; a manifest's files have the times of files and the digests of times."""


def read(path: Path) -> Any:
    """The content of a JSON, JSON Lines or YAML file."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in text.split("\n") if line]
    return yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(text)


def ranks_of(folder: Path) -> dict[str, int]:
    """Layer -> rank."""
    return {layer["name"]: layer["rank"] for layer in read(folder / "ranks.json")["layers"]}


def kept_ranks(folder: Path) -> dict[str, int]:
    """Layer -> rank, of the layers that have LoRA."""
    return {name: rank for name, rank in ranks_of(folder).items() if rank}


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its content, and every folder; what is hidden, too."""
    return {
        str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None
        for p in folder.rglob("*")
    }


def adapter_weights(folder: Path) -> dict[str, Tensor]:
    """The tensors of an adapter's folder."""
    return load_file(folder / "adapter_model.safetensors")


def ranks_in(weights: dict[str, Tensor]) -> dict[str, int]:
    """Layer -> rank of the LoRA that an adapter's tensors have, or those of a model that wears
    it."""
    return {
        name.removeprefix("base_model.model.").partition(".lora_A.")[0]: value.shape[0]
        for name, value in weights.items()
        if ".lora_A." in name
    }


def base_of(adapter: Path) -> Path:
    """The folder of the model that an adapter was trained on."""
    return Path(read(adapter / "adapter_config.json")["base_model_name_or_path"])


def loaded(adapter: Path) -> Any:
    """The model as the README loads it: base and adapter by plain transformers and PEFT."""
    settings = PeftConfig.from_pretrained(adapter)
    kind = HEADS[str(getattr(settings.task_type, "value", settings.task_type))]
    own = (
        {"config": AutoConfig.from_pretrained(adapter)}
        if (adapter / "config.json").exists()
        else {}
    )
    base = kind.from_pretrained(settings.base_model_name_or_path, **own)
    return PeftModel.from_pretrained(base, adapter).eval()


def logits_of(model: Any, batch: dict[str, Any]) -> Tensor:
    """What a model says of a batch."""
    with torch.no_grad():
        found: Tensor = model.eval()(**batch).logits
    return found


def batch_of(folder: Path, *texts: str) -> dict[str, Any]:
    """Texts as the tokenizer in a folder makes a batch of them."""
    return dict(
        AutoTokenizer.from_pretrained(folder)(list(texts), padding=True, return_tensors="pt")
    )


def outcome(root: Path) -> dict[str, Any]:
    """All files that a finished command leaves, with their content, but without seconds and
    memory."""
    found: dict[str, Any] = {}
    for path in (path for path in sorted(root.rglob("*")) if path.is_file()):
        name = str(path.relative_to(root))
        if any(drawn in name for drawn in DRAWN):
            found[name] = None
        else:
            found[name] = (
                _without_costs(read(path))
                if path.suffix in (".json", ".jsonl")
                else path.read_bytes()
            )
    return found


def _without_costs(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_costs(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {key: each for key, each in value.items() if key not in COSTS}
    return {
        key: _without_costs(each) for key, each in kept.items() if not key.startswith("seconds")
    }


def predicted_by(model: Any, folder: Path) -> bool:
    """Whether a classifier gives the classes and probabilities in a run's predictions.csv."""
    rows = pd.read_csv(folder / "predictions.csv")
    texts = [list(rows[name]) for name in rows.columns[: rows.columns.get_loc("label")]]
    batch = AutoTokenizer.from_pretrained(folder / "adapter")(
        *texts, padding=True, return_tensors="pt"
    )
    found = logits_of(model, dict(batch)).softmax(-1).max(-1)
    assert found.values.tolist() == pytest.approx(list(rows["probability"]), rel=1e-4, abs=1e-5)
    names = [model.config.id2label[int(number)] for number in found.indices]
    return names == list(rows["predicted"])
