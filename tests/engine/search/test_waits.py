"""A step of a search reads no number back from the device, for which a GPU would be waited for, and mixes no devices.

The device `meta` has no numbers: reading one raises an error, and so does an operation on it and on the CPU. Nor may a
step make a tensor from a number of Python on the device, as this copies the number there and waits.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.search.engine import SearchEngine, build_engine
from autolora.engine.search.hook import SearchHook
from autolora.problems import bilevel, level
from autolora.problems.data import Batch
from autolora.problems.hypergradients import HYPERGRADIENTS
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import ALONE

META = torch.device("meta")
STEPS, UNROLLED = 4, 2
READS_IN_EVERY_ITERATION = "cg"


class Net(nn.Module):
    """A classifier of three classes: two layers for LoRA, with dropout between them, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(32, 16)
        self.first, self.second = nn.Linear(16, 16), nn.Linear(16, 16)
        self.dropout = nn.Dropout(0.1)
        self.classifier = nn.Linear(16, 3)

    def forward(self, input_ids: Tensor, labels: Tensor) -> SimpleNamespace:
        hidden = self.embedding(input_ids)
        hidden = hidden + torch.tanh(self.second(self.dropout(torch.tanh(self.first(hidden)))))
        logits = self.classifier(hidden.mean(1))
        return SimpleNamespace(logits=logits, loss=nn.functional.cross_entropy(logits, labels))


@contextmanager
def as_is(*_: Any) -> Iterator[None]:
    yield


@pytest.fixture
def meta(monkeypatch: pytest.MonkeyPatch) -> Compute:
    """The device without what it lacks: random states and autocast."""
    monkeypatch.setattr(level, "random_state", lambda device: {})
    monkeypatch.setattr(level, "replay", as_is)
    monkeypatch.setattr(Compute, "autocast", as_is)
    return Compute(META, False)


def collate(rows: list[dict[str, Any]]) -> Batch:
    return {name: torch.tensor([row[name] for row in rows]) for name in ("input_ids", "labels")}


def engine_on(compute: Compute, config: RunConfig) -> SearchEngine:
    """An engine whose optimisers skip a step as the fused kernel of a GPU does, by `found_inf`."""
    rows = Dataset.from_dict(
        {"input_ids": [[i % 32] * 6 for i in range(40)], "labels": [i % 3 for i in range(40)], "length": [6] * 40}
    )
    settings = LoraConfig(
        r=config.lora.k, target_modules=["first", "second"], modules_to_save=["classifier"], lora_dropout=0.1
    )
    model: Any = get_peft_model(Net(), settings)  # type: ignore[arg-type]  # PEFT takes any module
    engine = build_engine(config, model, rows, rows, collate, compute)
    for problem in (engine.lora, engine.selection):
        problem.optimizer.defaults["fused"] = True
        problem.optimizer.register_step_pre_hook(forget_found_inf)
    engine.train()
    return engine


def forget_found_inf(optimizer: Any, *_: Any) -> None:
    """Only the fused kernel, which this device lacks, knows the attribute."""
    assert optimizer.found_inf.device == META
    del optimizer.found_inf


class NoNumbersCopied(TorchDispatchMode):
    """Raises an error where a tensor is made from a number of Python on the device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made_of_a_number = function is torch.ops.aten.lift_fresh.default and args[0].device == META
        assert not made_of_a_number, "a number is copied to the device: use torch.full"
        return function(*args, **(kwargs or {}))


def take_steps(compute: Compute, name: str, parts: int) -> None:
    """Some steps of a search, with what the search does after each; none of them writes a line."""
    config = with_values(
        RunConfig(name="x"),
        {"hypergradient.type": name, "search.steps": 100, "search.batch_size": 4, "search.unroll_steps": UNROLLED,
         "search.gradient_accumulation": parts, "search.log_every": 50, "search.check_every": 50, "lora.k": 2},
    )  # fmt: skip
    engine = engine_on(compute, config)
    run: Any = SimpleNamespace(
        config=config, processes=ALONE, fingerprint="", folder=RunFolder(Path("never written")), stop=StopRequest()
    )
    tracker: Any = None
    hook = SearchHook(engine, run, {}, tracker)
    with NoNumbersCopied():
        for engine.global_step in range(1, STEPS + 1):
            engine.train_step()
            assert not hook.after_step(engine)


@pytest.mark.trains
@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("name", [name for name in HYPERGRADIENTS if name != READS_IN_EVERY_ITERATION])
def test_no_step_reads_from_the_device(meta: Compute, monkeypatch: pytest.MonkeyPatch, name: str, parts: int) -> None:
    """But `unrolled`, which asks once in each outer step which of its inner steps were skipped."""
    asked: list[int] = []

    def read(flags: list[Tensor]) -> list[bool]:
        assert all(flag.device == META for flag in flags)
        asked.append(len(flags))
        return [False] * len(flags)

    monkeypatch.setattr(bilevel, "_read", read)
    take_steps(meta, name, parts)
    assert asked == ([UNROLLED] * (STEPS // UNROLLED) if name == "unrolled" else [])


@pytest.mark.trains
@pytest.mark.parametrize("name", ["unrolled", READS_IN_EVERY_ITERATION])
def test_what_is_read_would_be_noticed(meta: Compute, name: str) -> None:
    with pytest.raises((RuntimeError, NotImplementedError), match="meta"):
        take_steps(meta, name, 1)
