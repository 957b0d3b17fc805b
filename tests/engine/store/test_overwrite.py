"""--overwrite, killed before each of its operations on files: the old results are whole, and the
same command ends."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from autolora.engine.disk.files import write_text
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.manifest import Changed
from autolora.engine.store.overwrite import OverwriteFolders, finish_swap, staging_beside
from autolora.problems.machine.processes import ALONE
from tests.contract.readers import everything

OPERATIONS = {
    os: ("rename", "replace", "link", "fsync", "unlink", "rmdir"),
    Path: ("mkdir", "unlink"),
    shutil: ("copy2", "rmtree", "copytree"),
}
KEPT = ("search/summary.json", "search/weights.safetensors", "measure/evidence.json", "ranks.json")
NEW = ("retrain/summary.json", "adapter/adapter_model.safetensors", "metrics.json")


class Killed(BaseException):
    """The process is dead: no `except` or `finally` of its own changes a file any more."""


def kill_before(patch: pytest.MonkeyPatch, moment: int) -> None:
    """From now on the operations on files from the `moment`-th one on raise Killed."""
    count = 0

    def guarded(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count >= moment:
                raise Killed
            return original(*arguments, **options)

        return call

    for place, name in ((place, name) for place, names in OPERATIONS.items() for name in names):
        patch.setattr(place, name, guarded(getattr(place, name)))


def overwrite(root: Path) -> None:
    """A command that makes everything after the choice of ranks anew."""

    def work(new: RunFolder) -> None:
        assert [(new.root / name).read_text() for name in KEPT] == ["old"] * len(KEPT)
        write_text(new.config, "new")
        for name in NEW:
            write_text(new.root / name, "new")

    finish_swap(OverwriteFolders.of(root))
    if (root / "metrics.json").read_text() == "old":
        kept = ["search", "measure", "choose", "retrain", "evaluate"]
        staging_beside(RunFolder(root), kept, Changed("retrain", "another setting"), work, ALONE)


def test_a_kill_before_each_operation_loses_nothing(tmp_path: Path) -> None:
    moments = 0
    while True:
        moments += 1
        root = tmp_path / str(moments) / "x"
        for name in ("config.yaml", *KEPT, *NEW, "notes.txt"):
            write_text(root / name, "old")
        before = everything(root)
        with pytest.MonkeyPatch.context() as patch:
            kill_before(patch, moments)
            whole = False
            with suppress(Killed):
                overwrite(root)
                whole = True
        old = next(place for place in (root.with_name("x.old-1"), root) if place.exists())
        assert everything(old) == before
        overwrite(root)
        assert everything(root.with_name("x.old-1")) == before
        assert {name: (root / name).read_text() for name in (*KEPT, *NEW)} == (
            dict.fromkeys(KEPT, "old") | dict.fromkeys(NEW, "new")
        )
        assert sorted(path.name for path in root.parent.iterdir()) == ["x", "x.old-1"]
        if whole:
            break
    assert moments > 20
