"""What the world can do to a run is told in one line; what is the program's own fault is not hidden."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from autolora.configs.errors import UserError
from autolora.engine.run.faults import explained

ROOT = Path("runs/x")


def line_of(error: Exception) -> str:
    with pytest.raises(UserError) as caught, explained(ROOT):
        raise error
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "runs/x/ranks.json"), "on device: 'runs/x/ranks.json'"),
        (OSError(errno.EDQUOT, "Disk quota exceeded", "runs/x/ranks.json"), "quota exceeded: 'runs/x/ranks.json'"),
        (
            SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
            "No space left",
        ),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), "unexpected pos 64 vs 0"),
        (OSError("IOError: Error writing bytes to file. Detail: [errno 27] File too large"), "File too large"),
        (RuntimeError("Read-only file system (os error 30)"), "Read-only file system"),
    ],
)
def test_a_disk_that_cannot_be_written_is_told_in_the_librarys_words(error: Exception, words: str) -> None:
    line = line_of(error)
    assert line.startswith("cannot read or write: ")
    assert words in line
    assert line.endswith("; what was saved in runs/x is intact: the same command resumes")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory\n(allocated)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_a_full_memory_is_told_with_what_needs_less(error: Exception) -> None:
    line = line_of(error)
    assert line.startswith("out of memory: give a lower --search.batch_size or --retrain.batch_size")
    assert "--model.gradient_checkpointing true; what was saved in runs/x is intact" in line


@pytest.mark.parametrize(
    "make",
    [
        lambda: ValueError("shapes do not match"),
        lambda: FileNotFoundError(errno.ENOENT, "No such file or directory", "x"),
        lambda: UserError("--seed: no space left for this"),
    ],
    ids=["a defect", "a missing file", "a line for the user"],
)
def test_all_else_passes_as_it_is(make: Callable[[], Exception]) -> None:
    error = make()
    with pytest.raises(type(error)) as caught, explained(ROOT):
        raise error
    assert caught.value is error
