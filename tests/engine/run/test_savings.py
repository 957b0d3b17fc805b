"""What the program proposes when memory is short: settings that it would accept, and that save something here."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import nn

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine.run import memory
from autolora.engine.run.activations import Activations
from autolora.engine.run.context import Context
from autolora.engine.run.savings import FIRST_ORDER, OTHERS, Section, Training, savings
from autolora.engine.search.stage import build_search
from autolora.problems.machine.processes import ALONE, Processes

MIB = 2**20
BLOCKS = Activations(fixed=0, row=100 * MIB, fixed_again=0, row_again=20 * MIB, blocks=4)
NO_BLOCKS = Activations(fixed=0, row=100 * MIB, fixed_again=0, row_again=100 * MIB, blocks=0)


class Bench:
    """Those attributes of a run that the proposals depend on."""

    def __init__(
        self, values: dict[str, Any], processes: Processes = ALONE, dtype: torch.dtype = torch.float32
    ) -> None:
        self.config = with_values(RunConfig(name="short"), values)
        self.processes, self.weights_dtype = processes, dtype


def proposed(
    bench: Bench, section: Section = "search", held: Activations = BLOCKS, **changes: Any
) -> dict[str, dict[str, Any]]:
    """The first key of each proposal -> its settings, after the run's own configuration has taken them."""
    settings: dict[str, Any] = {
        "section": section, "rows": 16, "longest": 30, "held": held,
        "again": bench.config.model.gradient_checkpointing,
        "per_weight": OTHERS if section == "search" else FIRST_ORDER, "trained": 10_000_000, "frozen": 800 * MIB,
    }  # fmt: skip
    found = savings(cast(Any, bench), Training(**(settings | changes)))
    for saving in found:
        with_values(bench.config, saving.settings)
        assert saving.bytes > 0
    return {next(iter(saving.settings)): saving.settings for saving in found}


CHECKPOINTING = "model.gradient_checkpointing"


@pytest.mark.unit
@pytest.mark.parametrize(
    ("values", "refused"),
    [
        ({"hypergradient.type": "neumann"}, CHECKPOINTING),
        ({"hypergradient.type": "cg"}, CHECKPOINTING),
        ({"hypergradient.type": "exact"}, CHECKPOINTING),
        ({"study.probe.steps": [20], "study.axes": {"seed": [0, 1]}}, CHECKPOINTING),
        ({"model.load_in_4bit": True, "device": "cuda"}, "model.dtype"),
        ({"method": "full"}, "model.dtype"),
        ({"method": "adapter"}, "model.dtype"),
        ({"method": "head"}, CHECKPOINTING),
        ({"model.gradient_checkpointing": True}, CHECKPOINTING),
        ({"hypergradient.type": "first_order"}, "hypergradient.type"),
    ],
)
def test_what_the_configuration_refuses_is_not_proposed(values: dict[str, Any], refused: str) -> None:
    section: Section = "search" if with_values(RunConfig(name="short"), values).method == "autolora" else "retrain"
    per_weight = FIRST_ORDER if section == "retrain" or values.get("hypergradient.type") == "first_order" else OTHERS
    # So much is frozen that bf16 weights would save most, if they were allowed.
    assert refused not in proposed(Bench(values), section, per_weight=per_weight, frozen=8000 * MIB)


@pytest.mark.unit
def test_a_search_without_such_limits_gets_them_proposed() -> None:
    """The contrary of the test above: each of these is left out only where it is refused or saves less."""
    assert CHECKPOINTING in proposed(Bench({}))
    assert proposed(Bench({}), frozen=8000 * MIB)["model.dtype"] == {"model.dtype": "bf16"}
    assert proposed(Bench({}), trained=900_000_000)["hypergradient.type"] == {"hypergradient.type": "first_order"}
    assert "hypergradient.type" not in proposed(Bench({}), "retrain", trained=900_000_000)


@pytest.mark.unit
def test_a_model_without_blocks_cannot_compute_them_again() -> None:
    assert CHECKPOINTING not in proposed(Bench({}), held=NO_BLOCKS)


@pytest.mark.unit
def test_weights_that_are_in_bf16_already_stay_so() -> None:
    assert "model.dtype" not in proposed(Bench({}, dtype=torch.bfloat16), frozen=8000 * MIB)


@pytest.mark.unit
@pytest.mark.parametrize(("longest", "shorter"), [(128, 64), (31, 15), (9, 4), (5, 4)])
def test_rows_are_halved_from_the_longest_that_there_is(longest: int, shorter: int) -> None:
    """task.max_length is 128: half of it would not touch a row of 31 tokens."""
    bench, few = Bench({"model.gradient_checkpointing": True}), {"rows": 1, "frozen": 0, "trained": 0}
    assert proposed(bench, longest=longest, **few) == {"task.max_length": {"task.max_length": shorter}}
    assert proposed(bench, longest=4, **few) == {}


@pytest.mark.unit
@pytest.mark.parametrize(
    ("section", "processes", "batch", "accumulation", "expected"),
    [
        ("search", 1, 16, 1, {"search.batch_size": 8, "search.gradient_accumulation": 2}),
        ("search", 1, 16, 4, {"search.batch_size": 8, "search.gradient_accumulation": 8}),
        ("search", 1, 3, 1, {"search.batch_size": 1, "search.gradient_accumulation": 3}),
        ("retrain", 1, 6, 1, {"retrain.batch_size": 3, "retrain.gradient_accumulation": 2}),
        ("search", 4, 16, 1, {"search.batch_size": 8, "search.gradient_accumulation": 2}),
        ("retrain", 4, 16, 1, {"retrain.batch_size": 8}),  # where several processes accumulate nothing
        ("search", 1, 1, 1, None),
    ],
)
def test_half_the_batch_is_a_key_and_a_number(
    section: Section, processes: int, batch: int, accumulation: int, expected: dict[str, int] | None
) -> None:
    values = {f"{section}.batch_size": batch, f"{section}.gradient_accumulation": accumulation}
    bench = Bench(values, Processes(0, processes, 0))
    found = proposed(bench, section, rows=-(-batch // processes), frozen=0, trained=0)
    assert found.get(f"{section}.batch_size") == expected


@pytest.mark.unit
def test_three_are_named_as_options_the_largest_first() -> None:
    training = Training("search", 16, 30, BLOCKS, again=False, per_weight=OTHERS, trained=1000, frozen=1000 * MIB)
    assert [saving.words for saving in savings(cast(Any, Bench({})), training)] == [
        "--model.gradient_checkpointing true",
        "--task.max_length 15",
        "--search.batch_size 8 --search.gradient_accumulation 2",
    ]


@pytest.mark.parametrize(
    "given",
    [(), ("--hypergradient.type", "neumann"), ("--model.gradient_checkpointing", "true", "--model.dtype", "bf16")],
)
def test_a_refused_search_names_settings_that_its_configuration_takes(
    tiny_config: Callable[..., RunConfig],
    run_of: Callable[..., Context],
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, ...],
) -> None:
    monkeypatch.setattr(memory, "free", lambda *_: 1000.0)
    config = tiny_config(*given)
    with pytest.raises(UserError, match="what saves most: ") as refused:
        build_search(run_of(config), second_order=config.hypergradient.type == "neumann")
    named = str(refused.value).split("what saves most: ")[1].split("; --ignore_memory_estimate")[0]
    for proposal in named.split(", "):
        words = proposal.split()
        keys = [word.removeprefix("--") for word in words[::2]]
        assert with_values(config, dict(zip(keys, words[1::2], strict=True))) != config


def test_the_rows_of_a_model_without_marked_blocks_are_measured(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "free", lambda *_: 1000.0)
    monkeypatch.setattr("autolora.engine.run.activations.blocks_of", lambda model: list[nn.Module]())
    with pytest.raises(UserError) as refused:
        build_search(run_of(tiny_config()), second_order=False)
    assert CHECKPOINTING not in str(refused.value)
