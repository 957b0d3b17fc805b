"""The lines by which another trainer trains at the ranks of a run: `run.py --show RUN --for TRAINER`."""

from collections.abc import Callable, Mapping
from typing import Any

import yaml

from autolora.configs.errors import UserError
from autolora.configs.files import load_config
from autolora.configs.requests import Trainer
from autolora.configs.schema import RunConfig, WithLora
from autolora.engine import ranks
from autolora.engine.export.names import ADAPTER_CONFIG, what_parts_lose
from autolora.engine.export.scale import alpha_pattern
from autolora.engine.ranks import RankRecord
from autolora.engine.run.contents import read_lora_config
from autolora.engine.run.folder import RunFolder
from autolora.problems.models.load import GGUF
from autolora.problems.models.parts import layer_ranks

_CAUSAL = "CAUSAL_LM"


def lines_for(trainer: Trainer, folder: RunFolder) -> str:
    """Lines to paste, with comments: Python for PEFT, TRL and Unsloth, YAML for Axolotl and LLaMA-Factory.

    Raises UserError if ranks.json or lora_config/ is missing, if lora_config/ is damaged or holds other ranks than
    ranks.json, and for a model that the trainer does not train.
    """
    record = _record(folder)
    settings = read_lora_config(folder.lora_config / ADAPTER_CONFIG)
    _refuse_other_ranks(settings, record, folder)
    if trainer != "peft" and settings["task_type"] != _CAUSAL:
        raise UserError(
            f"--for: {trainer!r} is not allowed for {folder.root}, whose model is no causal language model "
            f"({settings['task_type']}); allowed: peft"
        )
    _refuse_output_layer(trainer, record, folder)
    lost = what_parts_lose(record)
    dropped = len(record.layers) - len(record.kept)
    told = f"# LoRA at the learned ranks of {folder.root}: mean {record.mean_in_words}"
    told += f"; {dropped} of {len(record.layers)} layers dropped\n" if dropped else "\n"
    told += f"# {lost}\n" if lost else ""
    return told + _LINES[trainer](settings, record, folder)


def _record(folder: RunFolder) -> RankRecord:
    if folder.begun and not folder.ranks.exists() and _config(folder).searches:
        raise UserError(
            f"--for: {folder.ranks} does not exist yet, as the choice of the ranks is half-done; the same command "
            f"resumes it"
        )
    if not folder.ranks.exists() or not (folder.lora_config / ADAPTER_CONFIG).exists():
        missing = folder.lora_config if folder.ranks.exists() else folder.ranks
        raise UserError(
            f"--for: {missing} does not exist; methods autolora, lora_grid and optuna write it once they have chosen "
            f"the ranks. The ranks of any other method are in adapter/adapter_config.json"
        )
    return ranks.load(folder.ranks)


def _config(folder: RunFolder) -> RunConfig:
    return load_config(folder.config)


def _refuse_other_ranks(settings: Mapping[str, Any], record: RankRecord, folder: RunFolder) -> None:
    """Raises UserError if ranks.json was edited after lora_config/ had been written."""
    if not _fits(settings, record, folder):
        raise UserError(
            f"--for: {folder.lora_config} does not hold the ranks in {folder.ranks}, which were edited since; "
            f"--stage retrain writes it again"
        )


_NO_OUTPUT_LAYER: Mapping[Trainer, str] = {
    "trl": "TRL computes the loss from that layer's weight alone, and refuses",
    "unsloth": "Unsloth trains no LoRA there",
}
"""Why a trainer takes no LoRA on the output layer; the others take it."""


def _refuse_output_layer(trainer: Trainer, record: RankRecord, folder: RunFolder) -> None:
    """Raises UserError for LoRA on the output layer, if the trainer takes none there."""
    output = next((layer for layer in record.kept if _last_word(layer) == "lm_head"), None)
    if output is not None and trainer in _NO_OUTPUT_LAYER:
        others = ", ".join(other for other in _LINES if other not in _NO_OUTPUT_LAYER)
        raise UserError(
            f"--for: {trainer!r} is not allowed for {folder.root}, which has LoRA on {output}: "
            f"{_NO_OUTPUT_LAYER[trainer]}; allowed: {others}, or a search without {output} in --lora.target_modules"
        )


def _last_word(name: str) -> str:
    return name.rpartition(".")[2]


def _fits(settings: Mapping[str, Any], record: RankRecord, folder: RunFolder) -> bool:
    """Whether PEFT's `settings` hold the ranks of `record` and, where the run's config.yaml tells it, their scale.

    Ranks of parts that were edited so that the rank of their layer stays change the scale alone.
    """
    same = settings["rank_pattern"] == layer_ranks(record.kept)
    if not same or not folder.config.exists():
        return same
    config = _config(folder)
    return isinstance(config, WithLora) and bool(settings["alpha_pattern"] == alpha_pattern(config, record))


def _base(record: RankRecord, settings: Mapping[str, Any]) -> str:
    """The base model in words, for a comment."""
    name = record.base_model or settings["base_model_name_or_path"]
    if name is None:
        return "it has no name on the hub"
    return f"{name}, revision {record.revision}" if record.revision else str(name)


def _untrained(folder: RunFolder) -> str:
    """A comment with the line that writes the untrained adapter."""
    made = f"get_peft_model(model, LoraConfig.from_pretrained({str(folder.lora_config.resolve())!r}))"
    line = f"{made}.save_pretrained({_untrained_folder(folder)!r})"
    return f"# This line of PEFT writes it (model: the base):\n#   {line}\n"


def _untrained_folder(folder: RunFolder) -> str:
    return str(folder.root.resolve() / "adapter_untrained")


def _peft(settings: Mapping[str, Any], record: RankRecord, folder: RunFolder) -> str:
    return (
        f"# model: the base model that was searched ({_base(record, settings)})\n"
        f"from peft import LoraConfig, get_peft_model\n\n"
        f"model = get_peft_model(model, LoraConfig.from_pretrained({str(folder.lora_config.resolve())!r}))\n"
    )


def _trl(settings: Mapping[str, Any], record: RankRecord, folder: RunFolder) -> str:
    return (
        f"# model: the base model that was searched ({_base(record, settings)}) or its name;\n"
        f"# args: your SFTConfig; train_dataset: your data. TRL's command line has no key for ranks.\n"
        f"from peft import LoraConfig\n"
        f"from trl import SFTTrainer\n\n"
        f"trainer = SFTTrainer(\n"
        f"    model=model,\n"
        f"    args=args,\n"
        f"    train_dataset=train_dataset,\n"
        f"    peft_config=LoraConfig.from_pretrained({str(folder.lora_config.resolve())!r}),\n"
        f")\n"
    )


def _axolotl(settings: Mapping[str, Any], record: RankRecord, folder: RunFolder) -> str:
    keys: dict[str, Any] = _named(settings, record, "base_model", "revision_of_model") | _code(folder)
    keys |= {"adapter": "lora", "lora_r": settings["r"], "lora_alpha": round(settings["lora_alpha"]) or 1}
    keys |= {"lora_dropout": settings["lora_dropout"], "lora_target_modules": settings["target_modules"]}
    if settings["modules_to_save"]:
        keys["lora_modules_to_save"] = settings["modules_to_save"]
    if settings["fan_in_fan_out"]:
        keys["lora_fan_in_fan_out"] = True
    keys["lora_model_dir"] = _untrained_folder(folder)
    return (
        f"# Only newer versions of Axolotl have a key for ranks (lora_rank_pattern), and older ones ignore it. So it\n"
        f"# starts from an untrained adapter, whose ranks and alphas it takes.\n"
        f"{_untrained(folder)}{_yaml(keys, record, settings, 'base_model')}"
    )


def _llama_factory(settings: Mapping[str, Any], record: RankRecord, folder: RunFolder) -> str:
    keys = _named(settings, record, "model_name_or_path", "model_revision") | _code(folder)
    keys |= {
        "finetuning_type": "lora",
        "adapter_name_or_path": _untrained_folder(folder),
        "create_new_adapter": False,
    }
    return (
        f"# LLaMA-Factory has no key for ranks: it starts from an untrained adapter and takes its ranks.\n"
        f"{_untrained(folder)}{_yaml(keys, record, settings, 'model_name_or_path')}"
    )


def _unsloth(settings: Mapping[str, Any], record: RankRecord, folder: RunFolder) -> str:
    names = ("r", "lora_alpha", "lora_dropout", "target_modules", "modules_to_save", "rank_pattern", "alpha_pattern")
    # A run stores full names, and Unsloth compares these modules by their last word alone.
    words = {name: _last_word(name) for name in settings["modules_to_save"] or ()}
    whole = list(dict.fromkeys(word if word in _WHOLE_IN_UNSLOTH else name for name, word in words.items()))
    asked = {**settings, "modules_to_save": whole or None}
    given = "".join(f"    {name}={asked[name]!r},\n" for name in names if asked[name] not in (None, {}))
    others = sorted(set(whole) - _WHOLE_IN_UNSLOTH)
    refused = f"# Unsloth refuses these modules_to_save: {', '.join(others)}. Leave them out, or take PEFT.\n"
    return (
        f"{refused if others else ''}"
        f"# model: the base model that was searched ({_base(record, settings)}), as FastLanguageModel loads it.\n"
        f"# Unsloth's manual does not say that it keeps these ranks; the last line prints the ranks that it uses.\n"
        f"from unsloth import FastLanguageModel\n\n"
        f"model = FastLanguageModel.get_peft_model(\n    model,\n{given})\n"
        f'print({{name: layer.r["default"] for name, layer in model.named_modules() if hasattr(layer, "lora_A")}})\n'
    )


_WHOLE_IN_UNSLOTH = {"lm_head", "embed_tokens"}
"""The modules that Unsloth can train whole, by its unsloth/models/llama.py."""


def _named(settings: Mapping[str, Any], record: RankRecord, name: str, revision: str) -> dict[str, Any]:
    """The keys of the base model; none for one that has no name on the hub, or that is one file of a repository."""
    if settings["base_model_name_or_path"] is None or (record.base_model or "").endswith(GGUF):
        return {}
    found = {name: settings["base_model_name_or_path"]}
    return found | ({revision: record.revision} if record.revision else {})


def _code(folder: RunFolder) -> dict[str, Any]:
    """The key that lets the trainer run the code of the model's repository, if the run did."""
    allowed = folder.config.exists() and _config(folder).model.trust_remote_code
    return {"trust_remote_code": True} if allowed else {}


def _yaml(keys: Mapping[str, Any], record: RankRecord, settings: Mapping[str, Any], name: str) -> str:
    """The keys as YAML. `name`: the key of the base model, which a comment gives if `keys` lack it."""
    told = "" if name in keys else f"# {name}: the model that was searched ({_base(record, settings)})\n"
    return told + yaml.safe_dump(dict(keys), sort_keys=False, width=10_000)


_LINES: Mapping[Trainer, Callable[[Mapping[str, Any], RankRecord, RunFolder], str]] = {
    "peft": _peft,
    "trl": _trl,
    "axolotl": _axolotl,
    "llama-factory": _llama_factory,
    "unsloth": _unsloth,
}
