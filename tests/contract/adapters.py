"""Adapters that stock PEFT has trained, and rows for them."""

import random
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from tests.contract.inputs import labelled

PLAIN = {
    "r": 4,
    "lora_alpha": 8,
    "target_modules": ["query", "value", "dense"],
    "modules_to_save": ["pooler"],
}


def reviews(path: Path, rows: int, seed: int) -> Path:
    """Rows whose label follows from one of their words."""
    draw = random.Random(seed)
    found = []
    for number in range(rows):
        label, telling = (("bad", ("dull", "noisy")), ("good", ("tasty", "really")))[number % 2]
        words = [
            *draw.choices(("film", "room", "soup", "was", "the", "our"), k=5),
            draw.choice(telling),
        ]
        draw.shuffle(words)
        found.append((words, label))
    return labelled(path, found)


def batches_of(path: Path, model: Path) -> list[dict[str, Any]]:
    """The rows as plain transformers makes batches of them."""
    rows = pd.read_csv(path)
    tokenizer = AutoTokenizer.from_pretrained(model)
    return [
        {
            **tokenizer(list(part["text"]), padding=True, return_tensors="pt"),
            "labels": torch.tensor([int(label == "good") for label in part["label"]]),
        }
        for _, part in rows.groupby(rows.index // 16)
    ]


def train_by_peft(base_folder: Path, folder: Path, rate: float) -> Path:
    """The folder of an adapter that PEFT alone has trained and saved."""
    torch.manual_seed(0)
    base = AutoModelForSequenceClassification.from_pretrained(base_folder, num_labels=2)
    model: Any = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", **PLAIN))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=rate)
    batches = batches_of(reviews(folder / "train.csv", 160, seed=0), base_folder)
    for _ in range(6):
        for batch in batches:
            model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.save_pretrained(folder / "adapter")
    return folder / "adapter"
