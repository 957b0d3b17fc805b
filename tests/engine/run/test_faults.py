"""An error in one line with its exit code: what the user can change, what a library raised, and a
bug of ours."""

import errno

import pytest
import torch

from autolora.configs.errors import UserError
from autolora.configs.schema import Autolora
from autolora.engine.run.faults import told
from autolora.engine.store.manifest import settings_of


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (UserError("--seed: 'a' is not allowed"), "--seed: 'a' is not allowed"),
        (torch.OutOfMemoryError("CUDA out of memory"), "out of memory: give a lower batch size"),
        (
            RuntimeError("DefaultCPUAllocator: can't allocate memory"),
            "out of memory: give a lower batch size",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "x"),
            "cannot read or write: [Errno 28] No space left",
        ),
        (
            RuntimeError("[enforce fail] unexpected pos 64 vs 0"),
            "cannot read or write: [enforce fail]",
        ),
        (
            ModuleNotFoundError("", name="betty.engine"),
            "a search needs Betty; run: pip install --no-deps",
        ),
        (ModuleNotFoundError("", name="ray"), "the Python package ray is not installed here"),
    ],
)
def test_what_the_user_can_change_is_said(error: Exception, said: str) -> None:
    line, code = told(error)
    assert (line[: len(said)], code) == (said, 2)


def test_an_error_of_ours_is_said_to_be_one() -> None:
    with pytest.raises(KeyError) as caught:
        settings_of(Autolora(), "nosuch")
    assert told(caught.value) == ("KeyError: 'nosuch'; this is a bug of this program", 1)
