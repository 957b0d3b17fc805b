"""Weights that do not fit are refused from the model's configuration alone."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, LlamaConfig

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.configs.values import with_values
from autolora.engine.run import weights
from autolora.engine.run.context import Context
from autolora.engine.run.weights import refuse_large_weights
from autolora.problems.machine.compute import Compute
from autolora.problems.machine.processes import Processes
from autolora.problems.models.precision import count_parameters

CPU = Compute(torch.device("cpu"), bf16=False)
GPU = Compute(torch.device("cuda"), bf16=True)
KIND = AutoModelForSequenceClassification


def test_weights_that_do_not_fit_are_refused_before_they_are_read(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_of(tiny_config())
    assert len(run.data.train)  # the task learns its classes from the rows
    monkeypatch.setattr(weights, "free", lambda *_: 1000.0)
    monkeypatch.setattr("autolora.engine.run.context.load_base", lambda *_, **__: pytest.fail("weights were loaded"))
    with pytest.raises(UserError, match=r"^--model\.name: the weights of .*--model\.dtype bf16") as refused:
        run.base()
    assert "\n" not in str(refused.value)


def test_the_limit_is_the_bytes_of_all_parameters(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config()
    count = count_parameters(config, KIND)
    for dtype, size in ((torch.float32, 4), (torch.bfloat16, 2)):
        monkeypatch.setattr(weights, "free", lambda *_, size=size: float(count * size))
        refuse_large_weights(config, KIND, dtype, CPU)
        monkeypatch.setattr(weights, "free", lambda *_, size=size: float(count * size - 1))
        with pytest.raises(UserError) as refused:
            refuse_large_weights(config, KIND, dtype, CPU)
        assert ("--model.dtype bf16" in str(refused.value)) == (dtype == torch.float32)


@pytest.mark.parametrize(
    ("given", "device", "named"),
    [
        ((), "cpu", ["--model.dtype bf16"]),
        ((), "cuda", ["--model.dtype bf16", "--model.load_in_4bit true"]),
        (("--model.dtype", "bf16"), "cuda", ["--model.load_in_4bit true --model.dtype auto"]),
        (("--method", "full"), "cuda", []),  # it trains all weights in fp32
    ],
)
def test_what_is_said_to_help_is_accepted(
    tiny_config: Callable[..., RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    given: tuple[str, ...],
    device: str,
    named: list[str],
) -> None:
    monkeypatch.setattr(weights, "free", lambda *_: 0.0)
    # A tiny model is little but embeddings, which 4 bits leave in fp32.
    monkeypatch.setattr(weights, "count_in_4bit", count_parameters)
    config = tiny_config("--device", "auto", *given)
    dtype = torch.bfloat16 if config.model.dtype == "bf16" else torch.float32
    with pytest.raises(UserError) as refused:
        refuse_large_weights(config, KIND, dtype, Compute(torch.device(device), bf16=False))
    said = str(refused.value).split("what helps: ")[1].split("; ")[0].split(", ")
    assert [one.rpartition(" (")[0] for one in said[:-1]] == named
    assert said[-1] == "a smaller model"


def test_4_bits_are_not_said_to_help_where_what_stays_in_fp32_is_larger(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "free", lambda *_: 0.0)
    config = tiny_config("--device", "auto", "--model.dtype", "bf16")
    with pytest.raises(UserError, match="what helps: a smaller model"):
        refuse_large_weights(config, KIND, torch.bfloat16, GPU)


def test_ignore_memory_estimate_refuses_nothing(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(weights, "free", lambda *_: 0.0)
    refuse_large_weights(tiny_config("--ignore_memory_estimate", "true"), KIND, torch.float32, CPU)


def test_each_process_on_a_machine_loads_its_own_copy(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of other machines take none of its memory."""
    config = tiny_config()
    needed = count_parameters(config, KIND) * 4
    monkeypatch.setattr(weights, "free", lambda compute, processes: 2.0 * needed / processes)
    refuse_large_weights(config, KIND, torch.float32, CPU, Processes(0, 8, 0, here=2))
    with pytest.raises(UserError, match=r"^--model\.name: the weights of "):
        refuse_large_weights(config, KIND, torch.float32, CPU, Processes(0, 8, 0, here=3))


@pytest.mark.parametrize(("host", "fits"), [(0.9, False), (1.1, True)])
def test_weights_for_a_gpu_must_first_fit_into_the_machines_memory(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, host: float, fits: bool
) -> None:
    """Linux killed the processes without a message. `host`: free there, in copies for each of two processes."""
    config = tiny_config("--device", "auto")
    needed = count_parameters(config, KIND) * 4
    monkeypatch.setattr(weights, "free", lambda *_: 10.0 * needed)
    monkeypatch.setattr(weights, "free_on_host", lambda processes: 2 * host * needed / processes)
    two = Processes(0, 2, 0, here=2)
    if fits:
        refuse_large_weights(config, KIND, torch.float32, GPU, two)
        return
    with pytest.raises(UserError, match=r"GiB are free in the machine's memory.*--model\.dtype bf16") as refused:
        refuse_large_weights(config, KIND, torch.float32, GPU, two)
    assert "\n" not in str(refused.value)


def test_weights_in_4_bits_go_to_the_gpu_one_by_one(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config("--device", "auto", "--model.load_in_4bit", "true")
    monkeypatch.setattr(weights, "free", lambda *_: 1e12)
    monkeypatch.setattr(weights, "free_on_host", lambda *_: 0.0)
    refuse_large_weights(config, KIND, torch.float32, GPU)


@pytest.mark.parametrize(("tied", "gib"), [(False, 7.5), (True, 5.5)])
def test_what_4_bits_leave_in_fp32_counts_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tied: bool, gib: float
) -> None:
    """The embeddings of Llama-3-8B and its output layer are 3.9 GiB in fp32, and were counted as 0.5."""
    LlamaConfig(
        vocab_size=128_256, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32, num_attention_heads=32,
        num_key_value_heads=8, tie_word_embeddings=tied, architectures=["LlamaForCausalLM"],
    ).save_pretrained(tmp_path)  # fmt: skip
    config = with_values(RunConfig(name="x"), {"model.name": str(tmp_path), "model.load_in_4bit": True})
    monkeypatch.setattr(weights, "free", lambda *_: 1e9)
    with pytest.raises(UserError, match=rf"need {gib} GiB.*what helps: a smaller model"):
        refuse_large_weights(config, AutoModelForCausalLM, torch.float32, GPU)
