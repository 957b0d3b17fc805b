"""An error in one line with its exit code: what the user can change, what a library raised, and a bug of ours."""

import errno
import json
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

from autolora.configs.errors import UserError
from autolora.engine.run.faults import told
from autolora.engine.run.manifest import settings_of

ANYTHING: Any = None


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("--seed: 'a' is not allowed"), "--seed: 'a' is not allowed"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: give a lower batch size"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory: give a lower batch size"),
        (OSError(errno.ENOSPC, "No space left on device", "x"), "cannot read or write: [Errno 28] No space left"),
        (PermissionError(errno.EACCES, "Permission denied", "x"), "cannot read or write: [Errno 13] Permission"),
        (RuntimeError("[enforce fail] unexpected pos 64 vs 0"), "cannot read or write: [enforce fail]"),
        (ModuleNotFoundError("", name="betty.engine"), "a search needs Betty; run: pip install --no-deps"),
        (ModuleNotFoundError("", name="ray"), "the Python package ray is not installed here"),
    ],
)
def test_what_the_user_can_change_is_said(error: Exception, said: str) -> None:
    line, code = told(error)
    assert (line[: len(said)], code) == (said, 2)


@pytest.mark.parametrize(
    ("function", "argument", "said"),
    [
        (partial(settings_of, ANYTHING), "nosuch", "KeyError: 'nosuch'; this is a bug of this program"),
        (json.loads, "x", "JSONDecodeError: Expecting value: line 1 column 1 (char 0); raised by json.decoder"),
    ],
)  # fmt: skip
def test_whose_error_it_is_is_said(function: Callable[[str], object], argument: str, said: str) -> None:
    with pytest.raises((KeyError, ValueError)) as caught:
        function(argument)
    assert told(caught.value) == (said, 1)
