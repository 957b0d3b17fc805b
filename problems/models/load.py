"""Load the base model and its tokenizer: from the hub, a local folder, or a folder inside an
installed package.

transformers dequantises a GGUF file (from any of the three). The model's config then has the file's
name as `gguf_file` and its folder as the model's name: `from_pretrained(folder, gguf_file=...)`
needs both, and an adapter's config.json keeps them.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
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
from autolora.configs.locations import GGUF, locate
from autolora.configs.training import ModelConfig
from autolora.problems.machine.compute import PLAIN, Compute
from autolora.problems.machine.hub import explain_missing

# Modules (names or their endings) that are not quantised: those that are new or may be trained
# whole, and the output layers of language models. transformers leaves out the latter by itself, but
# not when it is given a list.
NOT_IN_4BIT = [
    "classifier",
    "score",
    "pre_classifier",
    "classification_head",
    "logits_proj",
    "sequence_summary",
    "pooler",
    "pooler.dense",
    "lm_head",
    "lm_head.decoder",
    "embed_out",
    "output_projection",
]


@dataclass(frozen=True)
class BaseModel:
    """A freshly loaded model, and the full names of the modules that are trained whole beside LoRA.

    After loading, these are the task head (even if the checkpoint has one) and the `new` modules:
    those that the checkpoint lacks, whose weights are random.
    """

    model: PreTrainedModel
    trained_whole: list[str]
    new: Sequence[str] = ()


@contextmanager
def _source_of(config: ModelConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    """What transformers loads, and `from_pretrained`'s options for it. An error while loading
    inside the context becomes a UserError."""
    options: dict[str, Any] = {
        "revision": config.revision or "main",
        "trust_remote_code": config.trust_remote_code,
    }
    with explain_missing("--model.name", config.name):
        source = locate(config.name)
        if source.endswith(GGUF):
            folder, _, options["gguf_file"] = source.replace("\\", "/").rpartition("/")
            source = folder or "."
        yield source, options


def load_settings(config: ModelConfig, **head: Any) -> PreTrainedConfig:
    """The model's configuration; `head` are values for the task's head, such as num_labels.

    Raises UserError when the configuration cannot be loaded.
    """
    with _source_of(config) as (source, options):
        # Some config.json files ask for tuples as outputs, in which the loss cannot be found by its
        # name.
        return AutoConfig.from_pretrained(source, **options, **head, return_dict=True)


def without_weights(config: ModelConfig, auto_class: Any, **head: Any) -> Any:
    """The base model on the device meta, where weights have shapes and no numbers. Raises UserError
    as above."""
    settings = load_settings(config, **head)
    with _source_of(config), torch.device("meta"):
        return auto_class.from_config(settings, trust_remote_code=config.trust_remote_code)


def load_tokenizer(config: ModelConfig, **options: Any) -> PreTrainedTokenizerBase:
    """The model's tokenizer. Where it has no padding token, it pads with its end of text or,
    without one, with its token for unknown words. `options` are the task's. Raises UserError when
    it cannot be loaded."""
    with _source_of(config) as (source, where):
        tokenizer = AutoTokenizer.from_pretrained(source, **where, **options)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def share_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Tells the model the tokenizer's padding token: a decoder's class head reads the last token
    before it."""
    if hasattr(model, "score") or getattr(model.config, "pad_token_id", None) is None:
        for config in (model.config, model.config.get_text_config()):
            config.pad_token_id = tokenizer.pad_token_id


def load_base(
    config: ModelConfig,
    auto_class: Any,
    *,
    second_order: bool = False,
    dtype: torch.dtype = torch.float32,
    compute: Compute = PLAIN,
    **head: Any,
) -> BaseModel:
    """The base model in `dtype` with a head for the task; `head` are configuration values such as
    num_labels. `compute`: where weights in 4 bits lie, and how they are multiplied.

    `second_order` chooses the attention kernel that can be differentiated twice. Raises UserError
    when the model cannot be loaded, and when weights outside the head have another size than its
    config.json says: transformers has filled them with random numbers.
    """
    attention = "eager" if config.attention == "auto" and second_order else config.attention
    settings = load_settings(config, **head)
    with _source_of(config) as (source, options):
        model, report = auto_class.from_pretrained(
            source,
            config=settings,
            dtype=dtype,
            output_loading_info=True,
            # a head for another number of classes is replaced by a new one
            ignore_mismatched_sizes=True,
            # By default transformers uses sdpa, or eager where a model has no sdpa; asked for sdpa,
            # it refuses such.
            **({} if attention == "auto" else {"attn_implementation": attention}),
            **({} if "gguf_file" in options else {"use_safetensors": True}),
            **(_four_bits(compute) if config.dtype == "nf4" else {}),
            **options,
        )
    if "gguf_file" in options:
        # the weights are not quantised now, and Trainer refuses those that are
        del model.config.quantization_config
        model.hf_quantizer = None
        model.is_quantized = False
        model.config.gguf_file = options["gguf_file"]
    for key, saved, wanted in report["mismatched_keys"]:
        if in_body(model, key) or not head:
            raise UserError(
                f"--model.name: {config.name} does not hold what its config.json says: {key} "
                f"has the size {list(saved)}, not {list(wanted)}"
            )
    new = _owners(model, [*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])])
    return BaseModel(model, sorted(new | _heads(model) if head else new), sorted(new))


def _four_bits(compute: Compute) -> dict[str, Any]:
    """from_pretrained's options for QLoRA's nf4."""
    settings = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16 if compute.bf16 else torch.float32,
        llm_int8_skip_modules=NOT_IN_4BIT,
    )
    return {"quantization_config": settings, "device_map": {"": compute.device}}


def bodies_of(model: nn.Module) -> tuple[str, ...]:
    """The names of the children that are the base model of a model with a head; none if the model
    has no head.

    It is one child, named by the model's `base_model_prefix`. If there is no child of this name, it
    is all children that are models themselves: the encoder and the decoder of
    T5ForConditionalGeneration, or the one child that a repository's own code calls otherwise.
    """
    prefix: str = getattr(model, "base_model_prefix", "")
    if prefix and hasattr(model, prefix):
        return (prefix,)
    return tuple(
        name for name, child in model.named_children() if isinstance(child, PreTrainedModel)
    )


def in_body(model: nn.Module, name: str) -> bool:
    """Whether a module or weight of this name lies in the base model; False for all of a model
    without a head."""
    return name.startswith(tuple(f"{body}." for body in bodies_of(model)))


def _heads(model: PreTrainedModel) -> set[str]:
    """The modules with weights outside the base model, which are the task head.

    PEFT trains them by itself only if they are called classifier or score, which BART's and XLNet's
    are not.
    """
    beside = (
        (name, module) for name, module in model.named_children() if name not in bodies_of(model)
    )
    return {name for name, module in beside if any(True for _ in module.parameters())}


def _owners(model: PreTrainedModel, missing_keys: Iterable[str]) -> set[str]:
    """The full names of the modules, directly inside the model or inside its base model, that hold
    newly made weights.

    A random weight that is neither trained nor saved would make the adapter useless in another
    process. Besides the classifier, BERT's pooler is such a weight.
    """
    return {".".join(key.split(".")[: 1 + in_body(model, key)]) for key in missing_keys}
