"""Load the base model and its tokenizer: from the hub, a local folder, or a folder inside an installed package.

transformers dequantises a GGUF file (from any of the three). The model's config then has the file's name as
`gguf_file` and its folder as the model's name: `from_pretrained(folder, gguf_file=...)` needs both, and an adapter's
config.json keeps them.
"""

import copy
import importlib.util
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import constants, try_to_load_from_cache
from torch import nn
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from autolora.configs.errors import UserError
from autolora.configs.launch import processes_started
from autolora.configs.places import is_local
from autolora.configs.training import ModelConfig
from autolora.problems.machine.compute import fast_bf16
from autolora.problems.machine.hub import explain_missing
from autolora.problems.models.body import bodies_of, in_body
from autolora.problems.models.places import GGUF, locate

log = logging.getLogger("autolora.inputs")

# Modules (names or their endings) that are not quantised: those that are new or may be trained whole, and the output
# layers of language models. transformers leaves out the latter by itself, but not when it is given a list.
NOT_IN_4BIT = [
    "classifier", "score", "pre_classifier", "classification_head", "logits_proj", "sequence_summary", "pooler",
    "pooler.dense", "lm_head", "lm_head.decoder", "embed_out", "output_projection",
]  # fmt: skip


@dataclass(frozen=True)
class BaseModel:
    """A freshly loaded model, and the modules that are trained whole beside LoRA.

    After loading, these are the task head (even if the checkpoint has one) and the modules that the checkpoint lacks.
    """

    model: PreTrainedModel
    trained_whole: list[str]


@contextmanager
def source_of(config: ModelConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """What transformers loads, and `from_pretrained`'s options for it.

    An error while loading inside the context becomes a UserError that names what is missing.
    """
    with explain_missing("--model.name", config.name):
        source, file = _split_file(locate(config.name))
        yield source, {**file, **_options(config)}


def load_settings(config: ModelConfig, **head: Any) -> PreTrainedConfig:
    """The model's configuration; `head` are values for the task's head, such as num_labels.

    Parsing the header of a GGUF file takes seconds, so the configuration of the local file read last is kept (unless
    `head` is given). Raises UserError when the configuration cannot be loaded.
    """
    with source_of(config) as (source, options):
        path = Path(source) / options.get("gguf_file", "")
        if not head and path.is_file():
            return copy.deepcopy(_settings_in_gguf(source, path.name, path.stat().st_mtime_ns))
        # Some config.json files ask for tuples as outputs, in which the loss cannot be found by its name.
        return AutoConfig.from_pretrained(source, **options, **head, return_dict=True)


@lru_cache(maxsize=1)
def _settings_in_gguf(folder: str, file: str, _changed: int) -> PreTrainedConfig:
    """The configuration in a local GGUF file, which was last changed at `_changed`."""
    return AutoConfig.from_pretrained(folder, gguf_file=file, return_dict=True)


def load_tokenizer(config: ModelConfig, **options: Any) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Where it has no padding token, it pads with its end of text or, without one, with its
    token for unknown words. `options` are the task's. Raises UserError for a tokenizer with none of the three."""
    with source_of(config) as (source, where):
        _tell_of_download(config, source)
        tokenizer = AutoTokenizer.from_pretrained(source, **where, **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if tokenizer.pad_token is None:
        raise UserError(
            f"--model.name: the tokenizer of {config.name} has no token to pad texts with; allowed: one with a "
            f"pad_token, an eos_token or an unk_token"
        )
    return tokenizer


def _tell_of_download(config: ModelConfig, source: str) -> None:
    """Logs that the model will be downloaded, which takes minutes, if it is not yet on this machine."""
    if is_local(config.name) or Path(source).exists() or constants.HF_HUB_OFFLINE:
        return
    if not isinstance(try_to_load_from_cache(source, "config.json", revision=config.revision), str):
        log.info("downloading %s from the model hub into %s", config.name, constants.HF_HUB_CACHE)


def load_base(
    config: ModelConfig,
    auto_class: Any,
    *,
    second_order: bool = False,
    dtype: torch.dtype = torch.float32,
    **head: Any,
) -> BaseModel:
    """The base model in `dtype` with a head for the task; `head` are configuration values such as num_labels.

    `second_order` chooses the attention kernel that can be differentiated twice. Raises UserError when the model
    cannot be loaded, when its weights are quantised (but for 4 bits with dtype nf4, and GGUF files), when a block
    lacks weights, and when weights outside the head have another size than its config.json says.
    """
    quantised = _four_bits() if config.dtype == "nf4" else {}
    with source_of(config) as (source, options):
        file = {name: value for name, value in options.items() if name == "gguf_file"}
        settings = load_settings(config, **head)
        if not file:
            _refuse_quantised(settings, config)
        model, report = auto_class.from_pretrained(
            source,
            config=settings,
            dtype=dtype,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # a head for another number of classes is replaced by a new one
            **({} if file else {"use_safetensors": True}),
            **quantised,
            **_attention(config, second_order=second_order),
            **options,
        )
    if file:
        _forget_quantisation(model, file["gguf_file"])
    remade = _of_another_head(model, report["mismatched_keys"], config.name, head.get("num_labels"))
    _refuse_without_blocks(model, report["missing_keys"], config.name)
    new = _owners(model, [*report["missing_keys"], *remade])
    return BaseModel(model, sorted(new | _heads(model) if head else new))


def share_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Tells the model the tokenizer's padding token: a decoder's class head reads the last token before it."""
    if hasattr(model, "score") or getattr(model.config, "pad_token_id", None) is None:
        for config in (model.config, model.config.get_text_config()):
            config.pad_token_id = tokenizer.pad_token_id


def _split_file(source: str) -> tuple[str, dict[str, Any]]:
    """Folder or hub repository, and from_pretrained's option for a GGUF file in it.

    Raises UserError when the package that reads such files is missing.
    """
    if not source.endswith(GGUF):
        return source, {}
    if importlib.util.find_spec("gguf") is None:
        raise UserError(f"--model.name: {source} needs the package gguf; run: pip install gguf")
    folder, _, name = source.replace("\\", "/").rpartition("/")
    return folder or ".", {"gguf_file": name}


def _forget_quantisation(model: Any, file: str) -> None:
    """Makes a dequantised model look unquantised, as Trainer refuses quantised models. `file`: its GGUF file."""
    del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    model.config.gguf_file = file


def _attention(config: ModelConfig, *, second_order: bool) -> dict[str, Any]:
    """from_pretrained's option for the attention kernel."""
    attention = "eager" if config.attention == "auto" and second_order else config.attention
    # By default transformers uses sdpa, or eager where a model has no sdpa; asked for sdpa, it refuses such a model.
    return {} if attention == "auto" else {"attn_implementation": attention}


def _four_bits() -> dict[str, Any]:
    """from_pretrained's options for QLoRA's nf4. Raises UserError where it cannot run."""
    for missing, what in (
        (processes_started() > 1, "a single process, as several are not tested"),
        (not torch.cuda.is_available(), "a CUDA GPU, and there is none here"),
        (importlib.util.find_spec("bitsandbytes") is None, "the package bitsandbytes; run: pip install bitsandbytes"),
    ):
        if missing:
            raise UserError(f"--model.dtype nf4: needs {what}; without it: --model.dtype auto")
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if fast_bf16("cuda") else torch.float32,
        llm_int8_skip_modules=NOT_IN_4BIT,
    )
    return {"quantization_config": settings, "device_map": {"": 0}}


def _refuse_quantised(settings: Any, config: ModelConfig) -> None:
    """Raises UserError for a checkpoint of quantised weights, unless it is in 4 bits and is asked for in 4 bits."""
    found = getattr(settings, "quantization_config", None)
    if not found:
        return
    fields = found if isinstance(found, dict) else found.to_dict()
    if config.dtype == "nf4" and fields.get("load_in_4bit"):
        return
    method = getattr(fields.get("quant_method"), "value", fields.get("quant_method")) or "bitsandbytes"
    raise UserError(
        f"--model.name: the weights of {config.name} are quantised ({method}), and cannot be trained on here; name "
        f"the unquantised model (if memory is short, with --model.dtype nf4 on a CUDA GPU)"
    )


def _of_another_head(model: PreTrainedModel, mismatched: Any, name: str, classes: int | None) -> list[str]:
    """Names of the head's weights that are new, as the checkpoint has another number of classes than `classes`.

    Raises UserError, with the model's `name`, for any other weight of the wrong size: transformers has filled it with
    random numbers.
    """
    for key, saved, wanted in sorted(mismatched):
        if in_body(model, key) or saved[1:] != wanted[1:] or wanted[0] != classes:
            raise UserError(
                f"--model.name: {name} does not hold what its config.json says: {key} has the size {list(saved)}, not "
                f"{list(wanted)}"
            )
    return [key for key, _, _ in mismatched]


def _refuse_without_blocks(model: PreTrainedModel, missing: Iterable[str], name: str) -> None:
    """Raises UserError if the checkpoint lacks weights of a block, which transformers has filled with random numbers.

    Such a block would be trained whole, as a new head is."""
    blocks = tuple(f"{n}." for n, module in model.named_modules() if isinstance(module, nn.ModuleList))
    lacking = sorted(key for key in missing if in_body(model, key) and key.startswith(blocks))
    if lacking:
        raise UserError(
            f"--model.name: {name} lacks {len(lacking)} weights that its config.json asks for, such as {lacking[0]}; "
            f"allowed: a complete model"
        )


def _options(config: ModelConfig) -> dict[str, Any]:
    return {"revision": config.revision or "main", "trust_remote_code": config.trust_remote_code}


def _heads(model: PreTrainedModel) -> set[str]:
    """The modules with weights outside the base model, which are the task head.

    PEFT trains them by itself only if they are called classifier or score, which BART's and XLNet's are not.
    """
    beside = ((name, module) for name, module in model.named_children() if name not in bodies_of(model))
    return {name for name, module in beside if any(True for _ in module.parameters())}


def _owners(model: PreTrainedModel, missing_keys: Iterable[str]) -> set[str]:
    """The modules, directly inside the model or inside its base model, that hold newly made weights.

    A random weight that is neither trained nor saved would make the adapter useless in another process. Besides the
    classifier, BERT's pooler is such a weight.
    """
    parts = (key.split(".") for key in missing_keys)
    return {part[1] if part[0] in bodies_of(model) else part[0] for part in parts}
