"""Tiny runs by the command line, each made once; and where a test's own runs lie."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.adapters import reviews, train_by_peft
from tests.contract.inputs import (
    conversations,
    language_arguments,
    lines,
    once,
    save_language_model,
)
from tests.contract.program import succeed
from tests.helpers.shared import made_once
from tests.helpers.tiny import tiny_arguments

Tiny = Callable[..., list[str]]
Chat = Callable[..., list[str]]
Finished = Callable[..., Path]
Models = Callable[..., Path]
LEARNING: dict[str, object] = {
    "stage": "search",
    "search__steps": 30,
    "search__learning_rate": 3e-2,
}
CURVE: dict[str, object] = {
    "measure__curve_ranks": "[1,2]",
    "measure__curve_budgets": "[0.5,1]",
    "measure__rows": 8,
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command sets for its libraries goes back."""
    monkeypatch.setenv("TOKENIZERS_PARALLELISM", "false")
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")


@pytest.fixture(scope="module", autouse=True)
def undrawn(quick_figures: None) -> None:
    """Modules that look at pictures override quick_figures."""


@pytest.fixture
def tiny(model_folder: Models, tmp_path: Path) -> Tiny:
    """tiny("--seed", "1", kind="gpt2"): the command line of a run of seconds in tmp_path/runs/tiny,
    without shares."""
    return lambda *more, kind="bert": once(
        [
            *tiny_arguments(model_folder(kind), tmp_path, kind),
            "--task.evaluation_rows",
            "64",
            *map(str, more),
        ]
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where `tiny` leaves its run."""
    return tmp_path / "runs" / "tiny"


@pytest.fixture
def done(finished: Finished, folder: Path) -> Path:
    """A copy of a finished run of `tiny`, with shares and curve, at its place; to be changed."""
    return shutil.copytree(finished(), folder)


@pytest.fixture(scope="session")
def chat_model(shared_folder: Path) -> Path:
    """A tiny language model with a chat template."""
    return made_once(shared_folder / "contract-chat-model", save_language_model)


@pytest.fixture
def chat(chat_model: Path, tmp_path: Path) -> Chat:
    """chat(method="lora"): the command line of a run of seconds on conversations in
    tmp_path/runs/tiny."""
    data = lines(tmp_path.with_name(f"{tmp_path.name}.jsonl"), conversations())
    return lambda **more: language_arguments(chat_model, data, tmp_path / "runs", **more)


@pytest.fixture(scope="session")
def finished_chat(chat_model: Path, shared_folder: Path) -> Path:
    """The folder of a run of all stages on conversations, made once; do not write."""

    def train(place: Path) -> None:
        data = lines(place / "messages.jsonl", conversations())
        succeed(*language_arguments(chat_model, data, place / "runs", export__merged="true"))

    return made_once(shared_folder / "contract-chat", train) / "runs" / "tiny"


@pytest.fixture(scope="session")
def searched(chat_model: Path, shared_folder: Path) -> Path:
    """A search by shares of which LoRA has learned something; do not write."""

    def search(place: Path) -> None:
        data = lines(place / "messages.jsonl", conversations())
        succeed(*language_arguments(chat_model, data, place / "runs", **LEARNING, **CURVE))

    return made_once(shared_folder / "contract-searched", search) / "runs" / "tiny"


@pytest.fixture(scope="session")
def held_out(shared_folder: Path) -> Path:
    """Rows that no adapter of `trained` was trained on; do not write."""

    def write(place: Path) -> None:
        reviews(place / "val.csv", 120, seed=1)

    return made_once(shared_folder / "contract-held-out", write) / "val.csv"


@pytest.fixture(scope="session")
def trained(model_folder: Models, shared_folder: Path) -> Path:
    """The folder of an adapter of a tiny model that PEFT alone has trained; do not write."""

    def train(place: Path) -> None:
        train_by_peft(model_folder("bert"), place, 1e-2)

    return made_once(shared_folder / "contract-adapter", train) / "adapter"
