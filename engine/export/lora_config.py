"""PEFT's LoRA at recorded ranks: its configuration, a model with it, and lora_config/ for trainers elsewhere."""

from pathlib import Path
from typing import Any

from peft import LoraConfig, PeftConfig, PeftModel
from transformers import PreTrainedModel

from autolora.configs.places import PACKAGE, portable_name
from autolora.configs.schema import WithLora
from autolora.configs.training import ModelConfig
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.export.names import ADAPTER_CONFIG, what_parts_lose
from autolora.engine.export.scale import alpha_of, alpha_pattern, whole
from autolora.engine.ranks import RankRecord
from autolora.problems.models.attach import ADAPTER, attach, keep_block_sparse, lora_config, lora_layers
from autolora.problems.models.layers import heads_of_peft
from autolora.problems.models.load import GGUF
from autolora.problems.models.parts import layer_ranks
from autolora.problems.tasks.kind import Kind

_README = """# LoRA at learned ranks, without weights

PEFT's `LoraConfig.from_pretrained` reads this folder; an adapter trained with it has the ranks in `ranks.json` beside
this folder.

```python
from peft import LoraConfig, get_peft_model

model = get_peft_model(model, LoraConfig.from_pretrained("."))  # model: the base model; ".": this folder
```

{scale} Layers of rank 0 are left out of `target_modules`.
`python run.py --show RUN --for peft|trl|axolotl|llama-factory|unsloth` prints the lines for each trainer.
{parts}"""
_SCALES = {
    "mean_rank": "`alpha_pattern` gives every layer one scale, lora_alpha / sqrt(k x mean rank) = {scale:.4g}, with "
    "the mean over the layers, or parts of layers, that keep LoRA. At fewer ranks than k it is larger than in the "
    "search, so that they train well at the learning rate that suits rank k.",
    "component": "`alpha_pattern` keeps the scale of the search, lora_alpha / k = {scale:g}, on every component.",
    "fixed": "Every layer has lora_alpha / rank as its scale (`retrain.scale: fixed`).",
    "rslora": "`alpha_pattern` gives every layer rsLoRA's scale, lora_alpha / sqrt(rank) (`retrain.scale: rslora`).",
}


def adapter_config(config: WithLora, record: RankRecord, kind: Kind, head: list[str]) -> LoraConfig:
    """PEFT's configuration for the recorded ranks.

    Layers of rank 0 are left out of target_modules, as PEFT refuses r = 0. The parts of a fused layer share its LoRA,
    whose rank is their sum.
    """
    kept = layer_ranks(record.kept)
    largest = max(kept.values())
    return lora_config(
        config.lora,
        kind.peft_type,
        head,
        r=largest,
        lora_alpha=whole(alpha_of(config, largest, record.k, record.mean_kept_rank)),
        target_modules=list(kept),
        rank_pattern=kept,
        alpha_pattern=alpha_pattern(config, record),
    )


def attach_ranks(model: PreTrainedModel, config: LoraConfig, record: RankRecord) -> PeftModel:
    """`model` with LoRA at the recorded ranks.

    Raises RuntimeError if PEFT gave a layer another rank: PEFT itself only warns of a pattern that matches no layer.
    """
    peft_model = attach(model, config)
    found = {name: layer.r[ADAPTER] for name, layer in lora_layers(peft_model).items()}
    expected = layer_ranks(record.kept)
    if found != expected:
        wrong = sorted(set(found.items()) ^ set(expected.items()))
        raise RuntimeError(f"PEFT did not apply the recorded ranks: {wrong[:4]}")
    keep_block_sparse(peft_model, record.kept)
    return peft_model


def of_the_model(settings: LoraConfig) -> dict[str, Any]:
    """The fields of PEFT's configuration that only a loaded base model gives; a search stores them."""
    return {"modules_to_save": _trained_whole(settings), "fan_in_fan_out": settings.fan_in_fan_out}


def save_lora_config(settings: PeftConfig, record: RankRecord, folder: Path, config: WithLora) -> None:
    """Writes lora_config/: `settings` for a training by other programs, without any path of this machine."""
    assert isinstance(settings, LoraConfig)
    fields = settings.to_dict() | {
        "target_modules": sorted(settings.target_modules or []),
        # PEFT makes this a set when it attaches LoRA to a mixture of experts.
        "target_parameters": sorted(settings.target_parameters or []) or None,
        "modules_to_save": _trained_whole(settings) or None,
        "base_model_name_or_path": hub_name(config.model),
        "revision": config.model.revision,
        "inference_mode": False,
    }
    scale = _SCALES[config.retrain.scale].format(scale=alpha_of(config, 1, record.k, record.mean_kept_rank))
    lost = what_parts_lose(record)
    write_text(folder / "README.md", _README.format(scale=scale, parts=f"\n{lost}\n" if lost else ""))
    write_json(folder / ADAPTER_CONFIG, fields)


def _trained_whole(settings: LoraConfig) -> list[str]:
    """Modules trained whole, without those that PEFT adds by itself for a class head."""
    return sorted(set(settings.modules_to_save or []) - set(heads_of_peft(settings.task_type)))


def hub_name(model: ModelConfig) -> str | None:
    """The repository on the hub that a model comes from; None for a folder or a package of this machine."""
    name = portable_name(model.name)
    if name is None or name.startswith(PACKAGE):
        return None
    return name.rpartition("/")[0] if name.endswith(GGUF) else name
