"""An approximation in a user's file: it is made with the user's options, and what it does is checked at every call."""

import inspect
import logging
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from autolora.configs.count_words import counted
from autolora.configs.errors import UserError
from autolora.configs.own_class import own_class
from autolora.problems.hypergradients.base import Hypergradient, Inner, Outer, Tensors
from autolora.problems.machine.compute import seeded
from autolora.problems.machine.draws import seed_of

log = logging.getLogger("autolora")


def own(type_: str, options: Mapping[str, Any]) -> "Own":
    """A new object of the class that `type_` names as FILE.py:CLASS, made with `options` as its arguments.

    Raises UserError if the file or the class is missing, if the file fails, if the class is no Hypergradient, or if it
    cannot be made with these options.
    """
    found = own_class(type_, "hypergradient.type")
    if not issubclass(found, Hypergradient):
        raise UserError(
            f"--hypergradient.type: {type_} is no approximation; allowed: a class that derives from Hypergradient of "
            f"autolora.problems.hypergradients"
        )
    takes = inspect.signature(found)
    try:
        takes.bind(**options)
    except TypeError as error:
        raise UserError(
            f"--hypergradient.options: {type_} cannot be made with {dict(options)} ({error}); allowed: "
            f"{', '.join(map(str, takes.parameters.values())) or '{}, as it takes no arguments'}"
        ) from error
    try:
        return Own(found(**options), type_)
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # such as an abstract method that is missing
        raise UserError(f"--hypergradient.type: {type_} cannot be made {_where(error)}({_said(error)})") from error


class Own(Hypergradient):
    """At, eta and Source: those of `wrapped`, the user's approximation, which `type_` names as FILE.py:CLASS.

    What it draws from torch's random numbers follows from the run's seed and the number of the outer step: it is the
    same in all processes, however many there are, and in a search that resumes. It does not change the dropout masks
    of the search, nor do gradients that it leaves in .grad count. Raises UserError if it fails, if it changes W (which
    is then restored), if it does not return one tensor for each parameter of beta, of its shape and dtype, or if a
    checkpoint cannot hold its state.
    """

    def __init__(self, wrapped: Hypergradient, type_: str) -> None:
        self.wrapped = wrapped
        self._told_of_state = False
        self.name = type_  # type: ignore[misc]  # a ClassVar of all others
        # Flags of the class are those of the wrapped one; ClassVar keeps mypy from allowing a plain assignment.
        for flag in ("reads_vector", "reads_weights_before", "reads_steps", "reads_beta_gradient",
                     "reads_last_gradient", "second_order"):  # fmt: skip
            setattr(self, flag, getattr(wrapped, flag))

    def implicit(self, vector: Tensors, inner: Inner, outer: Outer) -> list[Tensor]:
        device = inner.compute.device
        weights, beta = inner.trainable_parameters(), outer.trainable_parameters()
        before = [p.detach().clone() for p in weights]
        gradients = [p.grad for p in (*weights, *beta)]
        _set_gradients((*weights, *beta), [None] * len(gradients))
        try:
            with seeded(seed_of(inner.seed, "hypergradient", outer.count), device):
                attributes = {} if self.carries else _seen_of(self.wrapped)
                found = self._call(self.wrapped.implicit, vector, _Guarded(inner, self.wrapped), outer)
        finally:
            changed = _restored(weights, before)
            _set_gradients((*weights, *beta), gradients)
        if changed:
            raise self._refused("changed W, the inner problem's weights; allowed: an implicit() that restores them")
        self._check(found, beta)
        self._tell_of_lost_state(attributes)
        return [one.detach() for one in found]

    def _tell_of_lost_state(self, before: Mapping[str, Any]) -> None:
        """Warns once if implicit() has set or changed attributes that no state_dict() saves. `before`: what
        `_seen_of` saw before the call."""
        if self.carries or self._told_of_state:
            return
        now = _seen_of(self.wrapped)
        if changed := [name for name in now if name not in before or not _same(before[name], now[name])]:
            self._told_of_state = True
            log.warning(
                "--hypergradient.type: %s changes %s in implicit(), but has no state_dict(): a search that resumes "
                "has lost it, and a comparison calls implicit() only where it measures", self.name, ", ".join(changed),
            )  # fmt: skip

    @property
    def carries(self) -> bool:
        return self.wrapped.carries

    def _check(self, found: Any, beta: Sequence[Tensor]) -> None:
        allowed = f"allowed: {counted(len(beta), 'tensor')}, one for each parameter of beta, of its shape and dtype"
        if not isinstance(found, list | tuple) or not all(isinstance(one, Tensor) for one in found):
            raise self._refused(f"returned {type(found).__name__} from implicit(), not a list of tensors; {allowed}")
        if len(found) != len(beta):
            raise self._refused(f"returned {len(found)} tensors from implicit(); {allowed}")
        for number, (one, parameter) in enumerate(zip(found, beta, strict=True), start=1):
            if (one.shape, one.dtype) != (parameter.shape, parameter.dtype):
                raise self._refused(
                    f"returned tensor {number} of shape {list(one.shape)} and {one.dtype} from implicit(), where beta "
                    f"has {list(parameter.shape)} and {parameter.dtype}; {allowed}"
                )

    def state_dict(self) -> dict[str, Any]:
        state: Any = self._call(self.wrapped.state_dict)
        if not isinstance(state, dict) or not _is_plain(state):
            raise self._refused(
                "returned from state_dict() what no checkpoint can hold; allowed: a dict of tensors, numbers and "
                "texts by name, also in lists and dicts"
            )
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._call(self.wrapped.load_state_dict, state)

    def _call(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except (UserError, torch.OutOfMemoryError):
            raise
        except (Exception, SystemExit) as error:
            raise self._refused(f"fails {_where(error)}({_said(error)})") from error

    def _refused(self, what: str) -> UserError:
        return UserError(f"--hypergradient.type: {self.name} {what}")


class _Guarded:
    """The inner problem; if an approximation reads what it has not asked for, the error names the flag that asks."""

    _ASKED_FOR_BY: ClassVar = {
        "weights_before": "reads_weights_before", "steps": "reads_steps", "beta_gradient": "reads_beta_gradient"
    }  # fmt: skip

    def __init__(self, inner: Inner, method: Hypergradient) -> None:
        self._inner = inner
        self._method = method

    def __getattr__(self, name: str) -> Any:
        flag = self._ASKED_FOR_BY.get(name)
        if flag and not getattr(self._method, flag):
            raise AttributeError(f"inner.{name} is not kept unless the class says {flag} = True")
        return getattr(self._inner, name)


@torch.no_grad()
def _restored(weights: Sequence[Tensor], before: Sequence[Tensor]) -> bool:
    """Gives the weights their earlier values; returns whether one had changed."""
    changed = [(w, b) for w, b in zip(weights, before, strict=True) if not torch.equal(w, b)]
    for weight, earlier in changed:
        weight.copy_(earlier)
    return bool(changed)


_Seen = tuple[Any, Any]
"""An object, with what changes when it is changed in place: a tensor's version, or what is in a container."""


def _seen_of(method: Hypergradient) -> dict[str, _Seen]:
    """What can be seen of each attribute, without a copy of any tensor."""
    return {name: _seen(value) for name, value in vars(method).items()}


def _seen(value: Any, levels: int = 3) -> _Seen:
    """`levels`: how many containers inside each other are opened."""
    if isinstance(value, Tensor):
        return value, None if value.is_inference() else value._version
    if isinstance(value, dict | list | tuple | set | deque) and levels:
        inside = [*value, *value.values()] if isinstance(value, dict) else value
        return value, [_seen(one, levels - 1) for one in inside]
    return value, None


def _same(one: _Seen, other: _Seen) -> bool:
    """Whether both are the same object, not changed in place. Values are compared by `is`, as == of two tensors is no
    single answer."""
    if one[0] is not other[0] or not isinstance(one[1], list):
        return one[0] is other[0] and one[1] == other[1]
    return len(one[1]) == len(other[1]) and all(map(_same, one[1], other[1]))


def _set_gradients(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient


def _is_plain(state: Any) -> bool:
    """Whether a checkpoint can hold the value."""
    if isinstance(state, dict):
        return all(isinstance(key, str) and _is_plain(value) for key, value in state.items())
    if isinstance(state, list | tuple):
        return all(map(_is_plain, state))
    return isinstance(state, Tensor | int | float | str | None)


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _where(error: BaseException) -> str:
    """`at line N of FILE `, the innermost place of the traceback; "" if there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"at line {frames[-1].lineno} of {frames[-1].filename} " if frames else ""
