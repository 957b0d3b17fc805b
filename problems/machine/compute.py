"""Where and how precisely to compute: device, autocast, random states that can be replayed, seconds of a step."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch

from configs.errors import UserError
from configs.schema import RunConfig


@dataclass(frozen=True)
class Compute:
    """The device and the precision of one run. Weights stay fp32; bf16 is autocast."""

    device: torch.device
    bf16: bool

    @property
    def fused(self) -> bool:
        """Whether AdamW has one kernel for all tensors here; it also leaves a step out without being read back."""
        return self.device.type in ("cpu", "cuda")

    def let_go(self) -> None:
        """Frees models that nothing uses any more: two at once may not fit, and they hang in cycles (Trainer and its
        callbacks, Betty's problems)."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        elif self.device.type == "mps":
            torch.mps.empty_cache()

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which forward passes run."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


def choose_compute(config: RunConfig, number: int = 0) -> Compute:
    """Device and precision for this machine; `number` is the GPU where each of several processes has its own.

    Raises UserError when the asked device is not there.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = config.device
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available[name]:
        there = ", ".join(kind for kind in available if available[kind])
        raise UserError(f"--device: {name!r} is not available here; available: auto, {there}")
    bf16 = config.precision == "bf16" or (config.precision == "auto" and _fast_bf16(name))
    return Compute(torch.device(name, number) if name == "cuda" and number else torch.device(name), bf16)


def _fast_bf16(device: str) -> bool:
    """Whether the hardware multiplies bf16 natively: emulated bf16 is slower than fp32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        # torch has no public question for this; without the private one fp32 is the safe answer.
        return any(
            getattr(torch.cpu, question, lambda: False)()
            for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    return False


def seed_everything(seed: int) -> None:
    """Seeds python, numpy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


RandomState = dict[str, torch.Tensor]


def random_state(device: torch.device) -> RandomState:
    """Torch's random state of the CPU and of the device, where it is another: what dropout masks are drawn from."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def set_random_state(state: RandomState, device: torch.device) -> None:
    """Puts a `random_state` back."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], device)
    elif device.type == "mps":
        torch.mps.set_rng_state(state["mps"])


@contextmanager
def replay(state: RandomState, device: torch.device) -> Iterator[None]:
    """Runs its body from `state`, so that it draws the same dropout masks again; the stream outside goes on
    undisturbed."""
    outside = random_state(device)
    set_random_state(state, device)
    try:
        yield
    finally:
        set_random_state(outside, device)


def wait_for(device: torch.device) -> None:
    """Returns when the device has done all that it was given: a GPU works on while Python goes ahead."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def timed(action: Callable[[], object], device: torch.device) -> float:
    """Seconds that `action` takes, what it started on the device included and what was started before left out."""
    wait_for(device)
    began = time.perf_counter()
    action()
    wait_for(device)
    return time.perf_counter() - began
