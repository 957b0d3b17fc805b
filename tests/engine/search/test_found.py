"""What a search left is read whole, or refused by the name of its file."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.search.found import (
    NUMBERS,
    read_numbers,
    read_tensors,
    searched_model,
    trains_head,
    write_tensors,
)
from autolora.engine.search.stage import build_search


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    numbers = {name: torch.rand(2, 3) for name in NUMBERS}
    write_tensors(numbers, folder.search_numbers)
    found = read_numbers(folder)
    assert all(torch.equal(found[name], numbers[name]) for name in NUMBERS)
    assert [path.name for path in folder.search.iterdir()] == ["components.safetensors"]


def test_a_head_is_told_from_lora_by_its_name(tmp_path: Path) -> None:
    folder, lora = RunFolder(tmp_path), {"base_model.model.q_proj.lora_A.default.weight": torch.rand(2, 3)}
    write_tensors(lora, folder.search_weights)
    assert not trains_head(folder)
    head = {"base_model.model.classifier.modules_to_save.default.weight": torch.rand(2, 3)}
    write_tensors(lora | head, folder.search_weights)
    assert trains_head(folder)


@pytest.mark.parametrize("content", [None, b"", b"\x00" * 40])
def test_a_missing_or_damaged_file_is_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"weights\.safetensors: cannot be read .*--stage search --overwrite"
    ) as refused:
        read_tensors(path)
    assert "\n" not in str(refused.value)


def test_numbers_that_are_not_all_there_are_refused(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    write_tensors({"alpha": torch.rand(2, 3)}, folder.search_numbers)
    with pytest.raises(UserError, match=r"components\.safetensors: must hold alpha, contribution, singular_values"):
        read_numbers(folder)


def test_weights_of_other_layers_are_refused(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    engine = build_search(run_of(tiny_config()), second_order=False)
    names = {id(p): name for name, p in engine.lora.module.named_parameters()}
    run = run_of(tiny_config("--lora.target_modules", "[query]"))
    write_tensors({names[id(p)]: p for p in engine.lora.trained}, run.folder.search_weights)
    with pytest.raises(UserError, match="holds the weights of other layers"):
        searched_model(run)
