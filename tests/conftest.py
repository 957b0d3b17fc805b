"""Tiny random models and tokenizers, built here: no network, no download, seconds for the whole fast set."""

from __future__ import annotations

import logging
import os

# Before torch and the hub libraries are imported: two threads on tiny tensors only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
# Read once, when ray is imported: under `uv run pytest` its workers would otherwise build environments of their own.
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["WANDB_MODE"] = "disabled"

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    set_seed,
)

from configs.parser import parse
from configs.schema import RunConfig
from engine.run.folder import RunFolder
from engine.run.interrupt import StopRequest
from engine.stages import Run, run_stages
from engine.tracking.wandb_run import Wandb
from problems.tasks.sample import make_sample

HIDDEN, LAYERS, HEADS = 32, 2, 2

TARGETS = {
    "bert": ["query", "value"],
    "roberta": ["query", "value"],
    "llama": ["q_proj", "v_proj"],
    "gpt2": ["c_attn"],
}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Every word of the sample task, and nothing else."""
    sample = make_sample(0, train=400, validation=40, test=40)
    sentences = [s for split in sample.values() for s in split["sentence"]]
    words = sorted({w for s in sentences for w in s.replace(",", " ,").split()})
    vocabulary = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def make_model(kind: str, vocabulary: int, dropout: float) -> Any:
    """A random base model of two layers, 32 wide."""
    common = {"vocab_size": vocabulary, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    wide = {"hidden_size": HIDDEN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": 64}
    drop = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    if kind == "bert":
        return BertModel(BertConfig(**common, **wide, **drop, max_position_embeddings=80))
    if kind == "roberta":
        return RobertaModel(RobertaConfig(**common, **wide, **drop, max_position_embeddings=80))
    if kind == "llama":
        return LlamaModel(LlamaConfig(**common, **wide, num_key_value_heads=1, attention_dropout=dropout))
    drop = {"resid_pdrop": dropout, "embd_pdrop": dropout, "attn_pdrop": dropout}
    return GPT2Model(GPT2Config(**common, **drop, n_embd=HIDDEN, n_layer=LAYERS, n_head=HEADS, n_positions=80))


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """model_folder("bert", dropout=0.1): a saved base model with its tokenizer; one for the same arguments."""
    made: dict[tuple[str, float], Path] = {}

    def make(kind: str = "bert", dropout: float = 0.1) -> Path:
        key = (kind, dropout)
        if key not in made:
            set_seed(0)
            folder = tmp_path_factory.mktemp(f"{kind}-{dropout}")
            tokenizer = make_tokenizer()
            make_model(kind, len(tokenizer), dropout).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            made[key] = folder
        return made[key]

    return make


@pytest.fixture
def tiny_config(model_folder: Callable[..., Path], tmp_path: Path) -> Callable[..., RunConfig]:
    """tiny_config("--search.steps", "4", kind="gpt2"): a run on a tiny model, few rows, fp32, in tmp_path/runs."""

    def make(*arguments: str, kind: str = "bert", dropout: float = 0.1) -> RunConfig:
        return parse([*tiny_arguments(model_folder(kind, dropout), tmp_path, kind), *arguments]).config

    return make


def tiny_arguments(model: Path, tmp_path: Path, kind: str = "bert") -> list[str]:
    """The command line of a run of seconds."""
    values = {
        "name": "tiny",
        "runs_folder": tmp_path / "runs",
        "precision": "fp32",
        "device": "cpu",
        "model.name": model,
        "task.type": "sample",
        "task.train_rows": 64,
        "lora.target_modules": f"[{','.join(TARGETS[kind])}]",
        # A pooler trained beside it would leave LoRA little to do in a run this short.
        "lora.modules_to_save": "[]",
        "lora.k": 4,
        "search.steps": 6,
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
    return [part for key, value in values.items() for part in (f"--{key}", str(value))]


@pytest.fixture(scope="session")
def finished_run(
    model_folder: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., RunFolder]:
    """finished_run("gpt2", "--export.merged", "true"): the folder of a run of all stages, made once; do not write."""
    made: dict[tuple[str, ...], RunFolder] = {}

    def make(kind: str = "bert", *arguments: str) -> RunFolder:
        key = (kind, *arguments)
        if key not in made:
            folder = tmp_path_factory.mktemp("finished")
            request = parse([*tiny_arguments(model_folder(kind), folder, kind), *arguments])
            made[key] = run_stages(request, StopRequest())
        return made[key]

    return make


@pytest.fixture(scope="session")
def make_argv(model_folder: Callable[..., Path]) -> Callable[..., list[str]]:
    """make_argv(folder): the command line of a tiny run in folder/runs."""
    return lambda folder: tiny_arguments(model_folder("bert"), folder)


@pytest.fixture(scope="session")
def make_config(model_folder: Callable[..., Path]) -> Callable[..., RunConfig]:
    """make_config(folder, "gpt2", "--search.steps", "4"): as tiny_config, for fixtures that live longer."""

    def make(folder: Path, kind: str, *arguments: str) -> RunConfig:
        return parse([*tiny_arguments(model_folder(kind), folder, kind), *arguments]).config

    return make


@pytest.fixture
def run_of() -> Callable[..., Run]:
    """run_of(config): the stages of a configured run, each to be called by itself."""

    def make(config: RunConfig, stop: StopRequest | None = None) -> Run:
        folder = RunFolder(Path(config.runs_folder) / str(config.name))
        return Run(config, folder, Wandb(config, folder.root, {}), stop or StopRequest())

    return make


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """What the program logs (caplog sees nothing of it once a run has taken the logger over)."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(f"{record.levelname} {record.getMessage()}")

    handler, log = Keep(), logging.getLogger("autolora")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    yield lines
    log.removeHandler(handler)
    log.setLevel(level)


@pytest.fixture
def float64() -> Iterator[None]:
    """Oracles are compared in double precision."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)
