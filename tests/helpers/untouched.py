"""Everything that can be seen of a model, to be compared bit for bit."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_pre_hooks_with_kwargs",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
)


def seen(model: nn.Module) -> dict[str, Any]:
    """Modules, attributes, hooks, modes, configuration; of every tensor its object, place, dtype,
    flags and bytes."""
    config = getattr(model, "config", None)
    return {
        "modules": [
            (name, id(module), type(module), module.training)
            for name, module in model.named_modules()
        ],
        "attributes": [(name, sorted(vars(module))) for name, module in model.named_modules()],
        "hooks": [
            (
                name,
                [
                    list((vars(module)[kind] or {}).values())
                    for kind in HOOKS
                    if kind in vars(module)
                ],
            )
            for name, module in model.named_modules()
        ],
        "forward": [id(vars(module).get("forward")) for module in model.modules()],
        "config": None if config is None else config.to_dict(),
        "tensors": {
            name: _of_tensor(p) for name, p in (*model.named_parameters(), *model.named_buffers())
        },
    }


def _of_tensor(tensor: torch.Tensor) -> tuple[Any, ...]:
    grad = None if tensor.grad is None else _of_tensor(tensor.grad)
    flags = id(tensor), str(tensor.device), tensor.dtype, tensor.requires_grad, grad
    if hasattr(tensor, "__tensor_flatten__"):  # torchao's
        return *flags, [
            _of_tensor(getattr(tensor, name)) for name in tensor.__tensor_flatten__()[0]
        ]
    numbers = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return *flags, numbers, _of_state(getattr(tensor, "quant_state", None))


def _of_state(state: Any) -> Any:
    """The scales that bitsandbytes keeps beside a weight in 4 bits, which may have scales in
    turn."""
    if isinstance(state, torch.Tensor):
        return _of_tensor(state)
    if hasattr(state, "__dict__"):
        return {name: _of_state(value) for name, value in vars(state).items()}
    return state


@contextmanager
def left_as_it_was(model: nn.Module) -> Iterator[None]:
    """Fails where what runs inside leaves any trace in the model."""
    before = seen(model)
    yield
    after = seen(model)
    for part, value in before.items():
        assert after[part] == value, part
