"""Replayed dropout masks, and the choice of device and precision."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.problems.machine import compute
from autolora.problems.machine.compute import Compute, choose_compute, on_device, random_state, replay, seeded, timed
from tests.helpers.four_bits import FourBits
from tests.helpers.places import ROOT

CPU = torch.device("cpu")


def test_no_tensor_becomes_double_on_the_device() -> None:
    """Apple's GPU has no float64: a search of an hour ended in a TypeError at its answer."""
    folders = ("engine", "problems", "benchmarks")
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    early = re.compile(r"\.double\(\)\.(cpu|to)\(|\.to\(torch\.float64\)\.cpu")
    found = [path.name for path in files if early.search(path.read_text(encoding="utf-8"))]
    assert found == [], "first .cpu(), then .double()"


def test_replay_draws_the_same_mask_and_leaves_the_stream_outside_alone() -> None:
    torch.manual_seed(3)
    expected = [torch.rand(4) for _ in range(3)]
    torch.manual_seed(3)
    torch.rand(4)
    state = random_state(CPU)
    second = torch.nn.functional.dropout(torch.ones(64), 0.5)
    torch.manual_seed(3)
    torch.rand(4)
    with replay(state, CPU):
        assert torch.equal(torch.nn.functional.dropout(torch.ones(64), 0.5), second)
        torch.rand(100)
    assert torch.equal(torch.rand(4), expected[1])
    with pytest.raises(ZeroDivisionError), replay(state, CPU):
        raise ZeroDivisionError
    assert torch.equal(torch.rand(4), expected[2])


def test_a_seed_gives_the_same_numbers_and_leaves_the_stream_outside_alone() -> None:
    drawn = []
    for outside, seed in ((1, 5), (2, 5), (1, 6)):
        torch.manual_seed(outside)
        before = torch.get_rng_state()
        with seeded(seed, CPU):
            drawn.append(torch.rand(4))
        assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


class TwoGpus:
    """The random numbers of torch.cuda with two GPUs, of which the first is the current one."""

    def __init__(self) -> None:
        self.generators = [torch.Generator().manual_seed(number) for number in (1, 2)]
        self.current = 0

    def get_rng_state(self, device: torch.device) -> torch.Tensor:
        return self.generators[device.index].get_state()

    def set_rng_state(self, state: torch.Tensor, device: torch.device) -> None:
        self.generators[device.index].set_state(state)

    def manual_seed(self, seed: int) -> None:
        self.generators[self.current].manual_seed(seed)

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        outside, self.current = self.current, device.index
        yield
        self.current = outside


def test_a_seed_is_that_of_the_models_gpu_and_not_of_the_current_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of a model on the second GPU followed from no seed, and the first GPU's stream was changed."""
    gpus, second = TwoGpus(), torch.device("cuda", 1)
    monkeypatch.setattr(torch, "get_device_module", lambda device: gpus)
    before = [generator.get_state() for generator in gpus.generators]
    with seeded(5, second):
        assert gpus.generators[1].initial_seed() == 5
        torch.rand(4, generator=gpus.generators[1])
    assert all(torch.equal(one.get_state(), state) for one, state in zip(gpus.generators, before, strict=True))


@pytest.mark.parametrize("hardware", [True, False])
def test_auto_precision_follows_the_hardware(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, hardware: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: hardware, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    assert choose_compute(tiny_config("--precision", "auto")).bf16 is hardware
    assert choose_compute(tiny_config("--precision", "bf16")).bf16
    assert not choose_compute(tiny_config("--precision", "fp32")).bf16


def test_autocast_computes_in_bf16_and_only_when_asked() -> None:
    layer, x = torch.nn.Linear(2, 2), torch.ones(1, 2)
    for bf16, dtype in ((True, torch.bfloat16), (False, torch.float32)):
        with compute.Compute(CPU, bf16).autocast():
            assert layer(x).dtype == dtype


def test_a_missing_device_is_named_with_what_there_is(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"--device: 'cuda' is not available here; available: auto, cpu"):
        choose_compute(tiny_config("--device", "cuda"))
    assert choose_compute(tiny_config("--device", "auto")).device == CPU


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (
            "CUDA error: no kernel image is available for execution on the device",
            ", or a build of torch for this card",
        ),
        ("CUDA error: the launch timed out", ""),
    ],
)
def test_a_gpu_that_torch_cannot_compute_on_is_named(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, fault: str, said: str
) -> None:
    """torch counts a V100 as available, and the run ended in a traceback at its first operation."""

    def ones(*_: object, **__: object) -> None:
        raise RuntimeError(f"{fault}\nCUDA kernel errors might be reported later.")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"Tesla V100 at {device}")
    monkeypatch.setattr(compute.torch, "ones", ones)
    for given in ("auto", "cuda"):
        with pytest.raises(UserError) as refused:
            choose_compute(tiny_config("--device", given), 1)
        line = f"--device: torch cannot compute on the GPU Tesla V100 at cuda:1 ({fault}); allowed: cpu{said}"
        assert str(refused.value).startswith(line)
        assert "\n" not in str(refused.value)


def test_a_gpu_that_computes_is_chosen(tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    ones, tried = torch.ones, []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(compute.torch, "ones", lambda size, device: tried.append(device) or ones(size))
    chosen = choose_compute(tiny_config("--device", "auto", "--precision", "fp32"), 1)
    assert [chosen.device] == tried == [torch.device("cuda", 1)]


def test_a_gpu_is_waited_for_before_and_after_what_is_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels run on while Python goes ahead: without waiting only their launching would be timed."""
    done: list[str] = []
    monkeypatch.setattr(torch.accelerator, "synchronize", lambda device: done.append(f"waited for {device}"))

    def tick() -> float:
        done.append("clock")
        return float(len(done))

    monkeypatch.setattr(compute.time, "perf_counter", tick)
    seconds = timed(lambda: done.append("step"), torch.device("cuda", 1))
    assert done == ["waited for cuda:1", "clock", "step", "waited for cuda:1", "clock"]
    assert seconds == 3.0
    done.clear()
    timed(lambda: done.append("step"), CPU)
    assert done == ["clock", "step", "clock"]


def test_bf16_weights_round_without_autocast_too() -> None:
    fp32, autocast = (Compute(torch.device("cpu"), bf16=bf16) for bf16 in (False, True))
    model = nn.Linear(2, 2)
    assert (fp32.rounds(model), autocast.rounds(model)) == (False, True)
    assert fp32.rounds(nn.Sequential(model, nn.Linear(2, 2).to(torch.bfloat16)))


def test_products_in_bf16_with_weights_in_4_bits_round_too() -> None:
    fp32 = Compute(CPU, bf16=False)
    assert fp32.rounds(nn.Sequential(FourBits()))
    assert not fp32.rounds(nn.Sequential(FourBits(torch.float32)))


def test_a_batch_moves_its_tensors_and_keeps_plain_numbers() -> None:
    """TRL's packed batches hold the longest length as a number."""
    moved = on_device({"input_ids": torch.ones(2), "max_length_q": 3}, torch.device("meta"))
    assert moved["input_ids"].device.type == "meta"
    assert moved["max_length_q"] == 3
