"""Tiny causal language models with a byte-level tokenizer, and E2E-like rows made here."""

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    set_seed,
)

NAMES = ("Blue Spice", "The Mill", "Clowns", "Aromi", "The Vaults", "Zizzi")
AREAS = ("riverside", "city centre")


def e2e_rows() -> list[dict[str, str]]:
    """Two references of each of twelve records, in the release's columns."""
    return [
        {
            "meaning_representation": f"name[{name}], eatType[pub], area[{area}]",
            "human_reference": text,
        }
        for name in NAMES
        for area in AREAS
        for text in (f"{name} is a pub in the {area}.", f"In the {area} there is {name}, a pub.")
    ]


def write_e2e(folder: Path) -> Path:
    """A folder with train, validation and test."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, rows in (
        ("train", e2e_rows()),
        ("validation", e2e_rows()[:6]),
        ("test", e2e_rows()[4:12]),
    ):
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def make_tokenizer(begin: str = "<|endoftext|>") -> PreTrainedTokenizerFast:
    """Bytes and a few merges; `begin` begins a text, <|endoftext|> ends it; as GPT-2's, it has no
    padding token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=list(dict.fromkeys(["<|endoftext|>", begin])),
        show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator((row["human_reference"] for row in e2e_rows()), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=begin, eos_token="<|endoftext|>"
    )


def make_causal(kind: str, vocabulary: int) -> Any:
    """A random model of two layers, 32 wide, without dropout."""
    set_seed(0)
    # Random output weights of their own: tied ones would make it say the last token again and
    # again.
    ids: dict[str, Any] = {
        "vocab_size": vocabulary,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "initializer_range": 0.3,
    }
    ids["tie_word_embeddings"] = False
    if kind == "llama":
        wide = {
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "intermediate_size": 64,
        }
        return LlamaForCausalLM(LlamaConfig(**ids, **wide, num_key_value_heads=1))
    drop = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    return GPT2LMHeadModel(
        GPT2Config(**ids, **drop, n_embd=32, n_layer=2, n_head=2, n_positions=160)
    )


def save_causal(folder: Path, kind: str) -> Path:
    """A saved model with its tokenizer; Llama's has a beginning of text of its own."""
    tokenizer = make_tokenizer("<s>" if kind == "llama" else "<|endoftext|>")
    make_causal(kind, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
