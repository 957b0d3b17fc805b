"""The wheel, installed by plain pip into a fresh environment, used from a folder with packages of
its own."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

BETTY = ("--no-deps", "--ignore-requires-python", "betty-ml==0.2.1")
MODEL = """
import random
import torch
from peft import LoraConfig, get_peft_model
from transformers import BertConfig, BertForSequenceClassification

torch.manual_seed(0)
sizes = dict(vocab_size=60, hidden_size=32, num_hidden_layers=2)
sizes |= dict(num_attention_heads=2, intermediate_size=32)
model = BertForSequenceClassification(BertConfig(**sizes))
texts = [[1, *random.choices(range(4, 60), k=6), 2] for _ in range(48)]
rows = [{"input_ids": text, "labels": i % 2} for i, text in enumerate(texts)]
lora = LoraConfig(task_type="SEQ_CLS", r=2, target_modules=["query", "value"])


def collate(examples):
    columns = {key: [example[key] for example in examples] for key in ("input_ids", "labels")}
    batch = {key: torch.tensor(column) for key, column in columns.items()}
    return batch | {"attention_mask": torch.ones_like(batch["input_ids"])}
"""
MEASURE = """
import sys
from autolora import measure_adapter

adapter = get_peft_model(model, lora)
first = adapter.base_model.model.bert.encoder.layer[0]
torch.nn.init.normal_(first.attention.self.value.lora_B.default.weight)
print(measure_adapter(adapter, [collate(rows)]))
assert not any(name.partition(".")[0] == "betty" for name in sys.modules)
"""
LEARN = """
from autolora import learn_ranks

print(learn_ranks(model, rows, lora, collate=collate, search={"steps": 4, "batch_size": 8}).ranks)
"""


def requirements(text: str) -> set[str]:
    """The lines without comments."""
    return {line for line in text.splitlines() if line and not line.startswith("#")}


def test_plain_pip_and_uv_install_the_same_in_a_clone() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    asked = {*project["project"]["dependencies"], *project["dependency-groups"]["run"]}
    assert requirements((ROOT / "requirements.txt").read_text(encoding="utf-8")) == asked


@pytest.mark.soak
def test_the_wheel_measures_without_betty_and_learns_with_it(tmp_path: Path) -> None:
    def said(*words: object, code: int = 0) -> str:
        plain = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        done = subprocess.run(
            [*map(str, words)], cwd=mine, env=plain, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        return done.stdout + done.stderr

    mine = tmp_path / "mine"
    fresh = tmp_path / "fresh" / "bin"
    for name in ("configs", "engine", "problems"):
        (mine / name).mkdir(parents=True)
        (mine / name / "__init__.py").write_text("raise RuntimeError('a package of the script')\n")
    said(sys.executable, "-m", "venv", fresh.parent)
    said(fresh / "pip", "wheel", "-q", "--no-deps", "-w", tmp_path / "wheel", ROOT)
    said(fresh / "pip", "install", "-q", *(tmp_path / "wheel").glob("*.whl"))
    for name, text in (("measure.py", MODEL + MEASURE), ("learn.py", MODEL + LEARN)):
        (mine / name).write_text(text, encoding="utf-8")
    assert "-> " in said(fresh / "python", "measure.py")
    assert "ImportError: learn_ranks needs Betty; run: pip install --no-deps" in said(
        fresh / "python", "learn.py", code=1
    )
    said(fresh / "pip", "install", "-q", *BETTY)
    assert "bert.encoder.layer.1.attention.self.value" in said(fresh / "python", "learn.py")
    (mine / "empty").mkdir()
    mine = mine / "empty"
    assert "method: autolora" in said(
        fresh / "autolora", "--config", "quickstart.yaml", "--print_config"
    )
    assert "method: autolora" in said(fresh / "torchrun", "-m", "autolora", "--print_config")
    assert list(mine.iterdir()) == []
