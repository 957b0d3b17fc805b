"""Rows, base model and results are what their bytes are: size, time and name say nothing."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.contract.conftest import Models, Tiny
from tests.contract.inputs import once, own_table
from tests.contract.program import command, refused, succeed
from tests.contract.readers import everything, ranks_of, read
from tests.helpers.tiny import MEASURED, tiny_arguments


def in_place(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Changes the bytes of a file, whose size and time stay."""
    status = path.stat()
    content = change(path.read_bytes())
    assert len(content) == status.st_size
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def other_words(content: bytes) -> bytes:
    return content.replace(b"dull", b"warm")


def other_number(content: bytes) -> bytes:
    """The lowest bit of one number in the middle of the weights."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.fixture
def mine(model_folder: Models, tmp_path: Path) -> list[str]:
    """The command of a run on a table and a model of the user's own, in tmp_path/runs/tiny."""
    shutil.copytree(model_folder("bert"), tmp_path / "model")
    words = [*tiny_arguments(tmp_path / "model", tmp_path), *own_table(tmp_path)]
    return once([*words, "--method", "lora"])


def test_rows_of_another_content_are_read_anew(
    mine: list[str], folder: Path, tmp_path: Path
) -> None:
    succeed(*mine)
    before = everything(folder)
    in_place(tmp_path / "train.csv", other_words)
    assert "train.csv" in refused(*mine)
    assert everything(folder) == before
    succeed(*once([*mine, "--name", "again"]))
    rows = [read(folder.with_name(name) / "metrics.json")["data"] for name in ("tiny", "again")]
    assert rows[0]["training"]["sha256"] != rows[1]["training"]["sha256"]


def test_one_number_of_the_base_model_makes_another_one(
    mine: list[str], folder: Path, tmp_path: Path
) -> None:
    succeed(*mine)
    before = everything(folder)
    copied = shutil.copytree(tmp_path / "model", tmp_path / "copied")
    succeed(*once([*mine, "--model.name", str(copied)]))
    assert everything(folder) == before, "the same model under another name"
    in_place(tmp_path / "model" / "model.safetensors", other_number)
    assert "--model.name" in refused(*mine)
    assert everything(folder) == before


DAMAGES: dict[str, Callable[[Path], object]] = {
    "is missing": Path.unlink,
    "was cut": lambda path: os.truncate(path, path.stat().st_size // 2),
    "was edited": lambda path: in_place(path, other_number),
}
LEFT = (
    ("search/weights.safetensors", "was cut"),
    ("search/trajectory.parquet", "is missing"),
    ("measure/evidence.json", "was edited"),
    ("lora_config/adapter_config.json", "is missing"),
    ("adapter/adapter_model.safetensors", "was edited"),
    ("adapter/adapter_config.json", "is missing"),
    ("predictions.csv", "was cut"),
    ("row_losses.parquet", "is missing"),
)


@pytest.mark.parametrize(("name", "fault"), LEFT)
def test_a_damaged_result_is_told_by_its_name(
    tiny: Tiny, done: Path, folder: Path, name: str, fault: str
) -> None:
    path = folder / name
    whole = path.read_bytes()
    before = everything(folder)
    argv = tiny(*MEASURED)
    DAMAGES[fault](path)
    line = refused(*argv)
    assert f"{path} {fault}" in line
    assert "--overwrite" in line
    path.write_bytes(whole)
    succeed(*argv)
    assert everything(folder) == before, "brought back, it is whole, and nothing is done"


def test_overwrite_makes_a_damaged_result_anew(tiny: Tiny, done: Path, folder: Path) -> None:
    weights = folder / "adapter" / "adapter_model.safetensors"
    whole = everything(folder)
    DAMAGES["was cut"](weights)
    succeed(*tiny(*MEASURED, "--overwrite"))
    after = everything(folder)
    name = "adapter/adapter_model.safetensors"
    assert after[name] == whole[name]
    assert after["search/weights.safetensors"] == whole["search/weights.safetensors"]
    assert (folder.parent / "tiny.old-1" / name).exists()


def test_a_kill_before_the_files_are_written_down_leaves_no_gap(
    tiny: Tiny, done: Path, folder: Path
) -> None:
    manifest = folder / "retrain" / "manifest.json"
    unwritten = manifest.read_text().partition(' "files": ')[0] + ' "files": {}\n}\n'
    manifest.write_text(unwritten)
    argv = tiny(*MEASURED)
    succeed(*argv)
    assert "adapter/adapter_model.safetensors" in read(manifest)["files"]
    DAMAGES["is missing"](folder / "adapter" / "adapter_model.safetensors")
    assert command(*argv).code == 2


def test_ranks_edited_by_hand_are_trained_at(tiny: Tiny, folder: Path) -> None:
    """What the choice wrote beside them is then not compared with what it was."""
    argv = tiny(*MEASURED)
    succeed(*argv, "--stage", "search")
    ranks = folder / "ranks.json"
    record = read(ranks)
    first = record["layers"][0]
    first["rank"] = 2 if first["rank"] == 1 else 1
    ranks.write_text(json.dumps(record))
    for asked in ("retrain", "all", "all"):
        succeed(*argv, "--stage", asked)
    assert ranks_of(folder)[first["name"]] == first["rank"]
