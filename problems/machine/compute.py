"""Where and how precisely to compute: device, autocast, random states that can be replayed, seconds
of a step."""

import random
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache
from torch import nn

from autolora.configs.errors import UserError


def holds_bf16(model: nn.Module) -> bool:
    """Whether the model rounds to bf16 without autocast: weights in bf16, or in 4 bits whose
    products are in bf16."""
    of_weights = {weight.dtype for weight in model.parameters()}
    of_products = {getattr(module, "compute_dtype", None) for module in model.modules()}
    return torch.bfloat16 in of_weights | of_products


@dataclass(frozen=True)
class Compute:
    """The device and the precision of the arithmetic of one run.

    `bf16`: whether forward passes run under bf16 autocast. The dtype of the weights is not kept
    here.
    """

    device: torch.device
    bf16: bool

    def let_go(self) -> None:
        """Frees the memory of models that nothing uses any more: two models at once may not fit.

        Reference cycles (Trainer and its callbacks, Betty's problems) keep such models until
        garbage is collected.
        """
        clear_device_cache(garbage_collection=True)

    def autocast(self) -> AbstractContextManager[None]:
        """Context in which forward passes run."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.bf16)


PLAIN = Compute(torch.device("cpu"), bf16=False)
"""On the CPU, in fp32."""


def choose_compute(wanted: str, precision: str, number: int = 0) -> Compute:
    """Device and precision for this machine, as the keys device and precision name them; `number`
    is this process's GPU where several processes run.

    Raises UserError when this machine does not have the device.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    name = wanted
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available[name]:
        raise UserError(f"--device: {name!r} is not available here")
    device = torch.device(name, number) if name == "cuda" and number else torch.device(name)
    bf16 = precision == "bf16" or (precision == "auto" and fast_bf16(name))
    return Compute(device, bf16)


def fast_bf16(device: str) -> bool:
    """Whether the hardware multiplies bf16 natively: emulated bf16 is slower than fp32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        # torch has no public function for this; where the private ones are missing, fp32 is the
        # safe answer.
        return any(
            getattr(torch.cpu, question, lambda: False)()
            for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
        )
    return False


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Runs its body from random states of Python, numpy and torch that follow from `seed`; then
    restores them."""
    gpu = device.type != "cpu"
    kept = random.getstate(), np.random.get_state(legacy=False)
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        with torch.random.fork_rng(
            [device.index or 0] if gpu else [], device_type=device.type if gpu else "cuda"
        ):
            # torch.manual_seed seeds all GPUs; where none is used it would note its caller each
            # time.
            (torch.manual_seed if gpu else torch.default_generator.manual_seed)(seed)
            yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])


@contextmanager
def same_random_numbers(device: torch.device) -> Iterator[None]:
    """Restores all random states, those of every CUDA GPU included, which set_seed seeds together,
    when the `with` block ends."""
    gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
    try:
        with seeded(0, device):
            yield
    finally:
        torch.cuda.set_rng_state_all(gpus)


def wait_for(device: torch.device) -> None:
    """Waits until the device has finished its work: a GPU may still compute after the Python call
    has returned."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
