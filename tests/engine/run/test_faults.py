"""What the world can do to a run is told in one line; what is the program's own fault is not hidden."""

import errno
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch._inductor.exc import InvalidCxxCompiler

from autolora.configs.errors import UserError
from autolora.configs.parser import parse
from autolora.engine.run.faults import explained

ROOT = Path("runs/x")


def line_of(error: Exception, *arguments: str) -> str:
    with pytest.raises(UserError) as caught, explained(parse(list(arguments)).config, ROOT):
        raise error
    assert caught.value.__cause__ is error
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "no space is left there"),
        (errno.EDQUOT, "the quota is used up"),
        (errno.EFBIG, "the file would be larger than allowed"),
        (errno.EROFS, "it is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.EIO, "the disk reports an error"),
        (errno.ENAMETOOLONG, "the path is longer than the file system allows"),
    ],
)
def test_a_disk_that_cannot_be_written_is_named_with_the_file(number: int, words: str) -> None:
    line = line_of(OSError(number, "in the system's words", "runs/x/ranks.json"))
    assert line.startswith(
        f"cannot read or write runs/x/ranks.json: {words}; what was saved in runs/x is intact: once "
    )


def test_a_folder_that_vanished_is_told_and_a_missing_file_in_a_folder_that_is_there_is_our_own_fault(
    tmp_path: Path,
) -> None:
    def fail() -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(tmp_path / "x" / "ranks.json"))

    config, root = parse([]).config, tmp_path / "x"
    with (
        pytest.raises(UserError, match=f"cannot read or write {root}/ranks.json: {root} is gone"),
        explained(config, root),
    ):
        fail()
    root.mkdir()
    with pytest.raises(FileNotFoundError), explained(config, root):
        fail()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"), "no space"),
        (RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"), "no space"),
        (OSError("IOError: Error writing bytes to file. Detail: [errno 27] File too large"), "larger than allowed"),
        (RuntimeError("Read-only file system (os error 30)"), "it is read-only"),
    ],
)
def test_a_failed_write_of_a_library_is_told_by_its_words(error: Exception, words: str) -> None:
    line = line_of(error)
    assert line.startswith("cannot read or write runs/x: ")
    assert words in line


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("MPS backend out of memory\n(allocated)"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"),
    ],
)
def test_a_full_memory_names_every_setting_that_needs_less_with_its_value(error: Exception) -> None:
    values = {
        "--search.batch_size": "5",
        "--retrain.batch_size": "6",
        "--retrain.gradient_accumulation": "7",
        "--retrain.eval_batch_size": "8",
        "--task.max_length": "9",
    }
    line = line_of(error, *(part for pair in values.items() for part in pair))
    assert line.startswith("out of memory: the same command resumes with --model.gradient_checkpointing true, ")
    resumes, again = line.split("; with --overwrite it starts again")
    for key, value in values.items():
        part = resumes if key == "--retrain.eval_batch_size" else again
        assert re.match(rf"[^0-9]*{value}\b", part.split(key, 1)[1]), key


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--model.gradient_checkpointing", "true"], set()),
        (["--hypergradient.type", "exact"], set()),
        (["--method", "head"], set()),
        (["--precision", "fp32"], {"--model.gradient_checkpointing true", "--precision auto"}),
        (["--task.type", "generation", "--task.path", "x"], {"--model.gradient_checkpointing true", "--decode.batch"}),
    ],
)
def test_a_full_memory_advises_no_setting_that_cannot_help(arguments: list[str], named: set[str]) -> None:
    line = line_of(MemoryError(), *arguments)
    possible = {"--model.gradient_checkpointing true", "--precision auto", "--decode.batch"}
    assert {words for words in possible if words in line} == named


def test_a_fault_outside_the_run_advises_no_other_folder_of_runs() -> None:
    outside = OSError(errno.ENOSPC, "No space left on device", "/elsewhere/cache/model.safetensors")
    assert "--runs_folder" not in line_of(outside)
    assert "--runs_folder" in line_of(OSError(errno.ENOSPC, "No space left on device", str(ROOT / "ranks.json")))


def test_a_machine_that_cannot_compile_is_told_how_to_go_on() -> None:
    line = line_of(InvalidCxxCompiler(), "--retrain.torch_compile", "true")
    assert line.startswith("--retrain.torch_compile: this machine cannot compile the model (")
    assert line.endswith("the same command with --retrain.torch_compile false resumes without it")
    with pytest.raises(InvalidCxxCompiler), explained(parse([]).config, ROOT):  # not asked for: a defect
        raise InvalidCxxCompiler()


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
    with pytest.raises(type(error)) as caught, explained(parse([]).config, ROOT):
        raise error
    assert caught.value is error
