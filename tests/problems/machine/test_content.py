"""A file is what its bytes are, and a base model what its weights and its config.json say."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from autolora.problems.machine.content import base_digest, base_files, digest_of, identify


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder with the files of a model."""
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"weight": torch.arange(1000.0)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({"hidden_size": 4, "_name_or_path": "a"}))
    return folder


def test_a_digest_is_read_once_until_the_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where size and time are set back, as by `cp -p` and `rsync -t`."""
    path = tmp_path / "rows.csv"
    path.write_text("good")
    first = identify(path)
    assert first.sha256 == hashlib.sha256(b"good").hexdigest()
    with monkeypatch.context() as patch:
        patch.setattr(hashlib, "file_digest", None)
        assert identify(path) == first
    other = tmp_path / "other.csv"
    other.write_text("evil")
    os.utime(other, ns=(first.modified_ns, first.modified_ns))
    os.replace(other, path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (first.size, first.modified_ns)
    assert digest_of(path) == hashlib.sha256(b"evil").hexdigest()


def test_a_model_under_another_name_is_the_same_and_one_of_another_number_is_not(
    model: Path,
) -> None:
    before = base_digest(str(model), None)
    copied = shutil.copytree(model, model.with_name("copied"))
    assert base_digest(str(copied), None) == before
    weights = copied / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-500] ^= 1
    weights.write_bytes(content)
    assert base_digest(str(copied), None) != before


def test_every_shard_of_the_weights_counts(model: Path) -> None:
    for number in (1, 2):
        shutil.copy(model / "model.safetensors", model / f"model-{number:05d}-of-00002.safetensors")
    (model / "model.safetensors").unlink()
    before = base_digest(str(model), None)
    save_file({"weight": torch.zeros(1000)}, model / "model-00002-of-00002.safetensors")
    assert base_digest(str(model), None) != before


@pytest.mark.parametrize(
    ("key", "same"), [("_name_or_path", True), ("transformers_version", True), ("eps", False)]
)
def test_the_settings_of_a_model_count_but_not_who_wrote_them(
    model: Path, key: str, same: bool
) -> None:
    before = base_digest(str(model), None)
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(settings | {key: "other"}, indent=2))
    assert (base_digest(str(model), None) == before) is same


def test_the_weights_are_those_that_transformers_loads(model: Path, tmp_path: Path) -> None:
    """Not those of another format or another program beside them."""
    for name in ("consolidated.safetensors", "pytorch_model.bin", "training_args.bin"):
        (model / name).write_text("other")
    assert [path.name for path in base_files(str(model), None)] == [
        "model.safetensors",
        "config.json",
    ]
    gguf = tmp_path / "model.Q4.gguf"
    gguf.write_text("weights")
    assert base_files(str(gguf), None) == [gguf]


def test_what_is_not_on_this_machine_has_no_digest() -> None:
    for name in ("org/never-loaded", "package:no_such_package/model", "/no/such/folder"):
        assert base_digest(name, None) is None


def test_the_cache_of_the_hub_tells_the_digest_of_a_large_file(tmp_path: Path) -> None:
    """Its name is the hub's own checksum, so that 15 GB are not read."""
    blob = tmp_path / "blobs" / ("0" * 64)
    blob.parent.mkdir()
    blob.write_text("weights")
    small = blob.with_name("0" * 40)
    small.write_text("settings")
    link = tmp_path / "snapshots" / "model.safetensors"
    link.parent.mkdir()
    link.symlink_to(blob)
    assert digest_of(link) == blob.name
    assert digest_of(small) == hashlib.sha256(b"settings").hexdigest()
