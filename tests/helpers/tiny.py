"""Tiny random models with their tokenizer, and the command line of a run on one that takes
seconds."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from autolora.configs.files import DEFAULT_CONFIG, read_keys
from autolora.configs.layers import flat, merged
from autolora.configs.locations import CONFIGS

HIDDEN = 32
LAYERS = 2
HEADS = 2
TARGETS = {
    "bert": ["query", "value"],
    "roberta": ["query", "value"],
    "gpt2": ["c_attn"],
    "llama": ["q_proj", "v_proj"],
    "mixtral": ["q_proj", "v_proj"],
}


def sample(split: str) -> dict[str, list[Any]]:
    """Sentences and labels of a split of the sample task."""
    found: dict[str, list[Any]] = pd.read_parquet(CONFIGS / "sample" / f"{split}.parquet").to_dict(
        "list"
    )
    return found


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Every word of the sample task, and nothing else."""
    sentences = [s for split in ("train", "validation", "test") for s in sample(split)["sentence"]]
    words = sorted({w for s in sentences for w in s.replace(",", " ,").split()})
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    )


def make_model(kind: str, vocabulary: int, dropout: float) -> Any:
    """A random base model of two layers, 32 wide."""
    wide = {
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "intermediate_size": 64,
    }
    encoder = {
        **wide,
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": dropout,
        "max_position_embeddings": 80,
    }
    settings: dict[str, dict[str, Any]] = {
        "bert": encoder,
        "roberta": encoder,
        "llama": {**wide, "num_key_value_heads": 1, "attention_dropout": dropout},
        "mixtral": {
            **wide,
            "num_key_value_heads": 1,
            "num_local_experts": 2,
            "num_experts_per_tok": 1,
        },
        "gpt2": {
            "n_embd": HIDDEN,
            "n_layer": LAYERS,
            "n_head": HEADS,
            "n_positions": 80,
            "resid_pdrop": dropout,
            "embd_pdrop": dropout,
            "attn_pdrop": dropout,
        },
    }
    tokens = {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    return AutoModel.from_config(AutoConfig.for_model(kind, **tokens, **settings[kind]))


MEASURED = ("--measure.rows", "1000")
"""Shares and curve, which a tiny run leaves out: they take as long as its search."""


def from_file(path: Path, values: Mapping[str, Any]) -> list[str]:
    """The command line that runs the quickstart with these keys changed. They stand in the file
    `path`, so that a test may change them again, or choose what lacks them."""
    layer = merged(read_keys(CONFIGS / DEFAULT_CONFIG), flat(values))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(layer), encoding="utf-8")
    return ["--config", str(path)]


def tiny_arguments(model: Path, tmp_path: Path, kind: str = "bert", **changes: Any) -> list[str]:
    """The command line of a run that takes seconds. `changes`: further keys, by their dotted
    names."""
    values = {
        "name": "tiny",
        "runs_folder": str(tmp_path / "runs"),
        "precision": "fp32",
        "device": "cpu",
        "model.name": str(model),
        "task.train_rows": 64,
        "lora.target_modules": TARGETS[kind],
        "lora.k": 4,
        # A pooler trained beside it would leave LoRA little to do in a run this short.
        "lora.modules_to_save": [],
        "choose.rule": "threshold",
        "measure.rows": 0,
        "search.steps": 6,
        "search.unroll_steps": 1,
        "search.batch_size": 8,
        "search.learning_rate": 1e-2,
        "search.selection_learning_rate": 5e-2,
        "search.log_every": 2,
        "search.check_every": 2,
        "search.checkpoint_every": 2,
        "retrain.max_steps": 4,
        "retrain.batch_size": 8,
        "tracking.wandb": "disabled",
    }
    return from_file(tmp_path / f"tiny-{kind}.yaml", values | changes)
