"""What users bring: tables, tagged words, conversations, texts to write, and tiny models for
them."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.helpers.chat_toys import CHATML
from tests.helpers.generation_toys import e2e_rows, make_causal, make_tokenizer
from tests.helpers.tiny import from_file

WORDS = ("film", "room", "soup", "was", "dull", "noisy", "tasty", "really", "the", "our")
FORMS = ("--export.merged", "true", "--export.padded", "true", "--retrain.learning_rate", "3e-2")
PARTS = ("--lora.target_modules", "[c_attn.q,c_attn.v]")
EXPORTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "bert": ("bert", FORMS),
    "gpt2, two parts of c_attn": ("gpt2", (*FORMS, *PARTS)),
    "llama at one scale": ("llama", (*FORMS, "--retrain.scale", "fixed")),
}
"""Kinds of a tiny base, and what makes all forms of the result of a run on it."""


def options(**values: object) -> list[str]:
    """Words of a command line; two underscores stand for the dot."""
    return [
        part
        for key, value in values.items()
        for part in (f"--{key.replace('__', '.')}", str(value))
    ]


def once(argv: list[str]) -> list[str]:
    """The same command line with each key once, at its last value; every --config stays."""
    files = list[str]()
    found = dict[str, list[str]]()
    for at, word in enumerate(argv):
        if word == "--config":
            files += argv[at : at + 2]
        elif word.startswith("--"):
            found.pop(word, None)
            found[key := word] = []
        elif argv[at - 1] != "--config":
            found[key].append(word)
    return [*files, *(part for key, values in found.items() for part in (key, *values))]


def labelled(path: Path, rows: Iterable[tuple[list[str], str]]) -> Path:
    """A CSV of texts, each given as its words, and labels."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "text,label\n" + "".join(f"{' '.join(words)},{label}\n" for words, label in rows)
    )
    return path


def table(
    path: Path, rows: int = 24, labels: tuple[str, ...] = ("bad", "good"), seed: int = 0
) -> Path:
    """A CSV of texts in the tiny tokenizer's words and labels, each class in turn."""
    draw = random.Random(seed)
    return labelled(
        path, ((draw.choices(WORDS, k=6), labels[i % len(labels)]) for i in range(rows))
    )


def numbers(path: Path, rows: int = 32) -> Path:
    """A CSV of texts and numbers around 50."""
    draw = random.Random(0)
    return labelled(
        path, ((draw.choices(WORDS, k=6), f"{50 + draw.random():.3f}") for _ in range(rows))
    )


def own_table(folder: Path, **more: Any) -> list[str]:
    """The options of a task whose training and validation rows lie in the folder, where both are
    written."""
    table(folder / "train.csv", **more)
    table(folder / "dev.csv", rows=8, seed=1)
    given = {"task__path": folder / "train.csv", "task__validation_path": folder / "dev.csv"}
    return options(task__type="text", **given, task__train_rows="null")


def tagged(folder: Path) -> list[str]:
    """The options of a tagging task; its training and test files (CoNLL, IOB2) are written to the
    folder."""
    tags = {"film": "B-thing", "room": "B-place", "dull": "B-view"}
    draw = random.Random(0)
    for name, count in (("train", 48), ("test", 12)):
        blocks = [
            "".join(f"{w}\t{tags.get(w, 'O')}\n" for w in draw.choices(WORDS, k=6))
            for _ in range(count)
        ]
        (folder / f"{name}.conll").write_text("\n".join(blocks), encoding="utf-8")
    given = {"task__path": folder / "train.conll", "task__test_path": folder / "test.conll"}
    return options(task__type="tokens", **given, task__train_rows="null")


def lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    """A file in JSON Lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def conversations() -> list[dict[str, Any]]:
    """Twelve prompts with two answers each."""
    roles = {"user": "meaning_representation", "assistant": "human_reference"}
    return [
        {"messages": [{"role": role, "content": row[roles[role]]} for role in roles]}
        for row in e2e_rows()
    ]


def save_language_model(folder: Path) -> None:
    """A tiny causal model with a byte-level tokenizer and a chat template."""
    tokenizer: Any = make_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.pad_token = "<|endoftext|>"
    tokenizer.chat_template = CHATML
    make_causal("llama", len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


E2E: dict[str, object] = {"task__format": "e2e", "task__metrics": "[bleu]", "task__samples": None}
"""Of `language_arguments`: texts are written from records, as `write_e2e` makes them, and scored
without Java."""


def language_arguments(model: Path, data: Path, runs: Path, **more: object) -> list[str]:
    """The command line of a run on conversations that takes seconds; its usual values lie in a file
    beside `runs`."""
    usual: dict[str, object] = {
        "name": "tiny",
        "runs_folder": str(runs),
        "precision": "fp32",
        "device": "cpu",
        "model.name": str(model),
        "task.type": "chat",
        "task.path": str(data),
        "task.max_length": 160,
        "task.samples": 2,
        "lora.target_modules": ["q_proj", "v_proj"],
        "lora.k": 4,
        "search.steps": 4,
        "search.batch_size": 4,
        "search.unroll_steps": 1,
        "search.learning_rate": 1e-2,
        "search.log_every": 2,
        "retrain.max_steps": 4,
        "retrain.batch_size": 4,
        "measure.rows": 8,
        "measure.curve_ranks": [1],
        "measure.curve_budgets": [1],
        "task.decode.max_new_tokens": 8,
        "tracking.wandb": "disabled",
    }
    given = {key.replace("__", "."): value for key, value in more.items()}
    usual = {key: value for key, value in usual.items() if key not in given}
    words = [
        part
        for key, value in given.items()
        if value is not None
        for part in (f"--{key}", str(value))
    ]
    return [*from_file(runs.parent.with_name(f"{runs.parent.name}.yaml"), usual), *words]
