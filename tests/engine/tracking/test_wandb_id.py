"""The file that names a folder's wandb run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.tracking.wandb_id import Identity, identity_of, read_identity


@pytest.mark.parametrize("entity", ["team", ""])
def test_what_is_written_is_read(tmp_path: Path, entity: str) -> None:
    identity = Identity(entity, "autolora", "0a1b")
    identity.write(tmp_path / "wandb_id")
    assert read_identity(tmp_path / "wandb_id") == identity
    assert read_identity(tmp_path / "absent") is None


@pytest.mark.parametrize("content", [b"", b"autolora/0a1b", b"abc", b"team//0a1b", b"a/b/c/d", b"\xff\xfe"])
def test_a_file_that_names_no_run_is_told_and_a_new_run_begins(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, log_lines: list[str], content: bytes
) -> None:
    path = tmp_path / "wandb_id"
    path.write_bytes(content)
    found = identity_of(tiny_config(), path)
    assert log_lines == [f"WARNING {path}: is not ENTITY/PROJECT/ID of a wandb run; the file is ignored"]
    assert len(found.id) == 8
    assert read_identity(path) == found
