"""A wandb that keeps what it is told, and fails where it is asked to."""

import os
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest


class FakeArtifact:
    """Keeps which paths it was given."""

    def __init__(self, name: str, type: str) -> None:
        assert re.fullmatch(r"[a-zA-Z0-9_.-]{1,128}", name)
        self.name, self.type = name, type
        self.paths: list[Path] = []

    def add_file(self, path: str) -> None:
        assert Path(path).is_file()
        self.paths.append(Path(path))

    def add_dir(self, path: str) -> None:
        assert Path(path).is_dir()
        self.paths.append(Path(path))


class FakeRun:
    """Keeps what it is told; `fails` names the method that raises."""

    def __init__(self, fails: str) -> None:
        self.fails = fails
        self.logged: list[dict[str, Any]] = []
        self.artifacts: list[FakeArtifact] = []
        self.options: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.exit_code: int | None = None
        self.url = "https://wandb.example/run"
        self.id = self.project = self.entity = ""
        self.dir = "wandb/run-1-x/files"
        self.metrics: dict[str, dict[str, Any]] = {}

    def define_metric(self, name: str, **options: Any) -> None:
        self._maybe("define_metric")
        self.metrics[name] = options

    def log(self, values: dict[str, Any]) -> None:
        self._maybe("log")
        self.logged.append(values)

    def log_artifact(self, artifact: FakeArtifact) -> None:
        self._maybe("log_artifact")
        self.artifacts.append(artifact)

    def finish(self, exit_code: int) -> None:
        self._maybe("finish")
        self.exit_code = exit_code

    def _maybe(self, name: str) -> None:
        if name == self.fails:
            raise RuntimeError(f"{name} broke\nlong story")


def fake_wandb(monkeypatch: pytest.MonkeyPatch, fails: str = "") -> FakeRun:
    run = FakeRun(fails)

    def init(**options: Any) -> FakeRun:
        run._maybe("init")
        run.options = options
        run.id, run.project = options.get("id", "new"), options["project"]
        run.entity = options["entity"] or os.environ.get("WANDB_ENTITY") or "me"
        return run

    module: Any = types.ModuleType("wandb")
    module.init, module.Settings = init, dict
    module.Image = lambda source: Path(source).name if isinstance(source, str) else ("picture", source.size)
    module.plot = types.SimpleNamespace(line_series=lambda **options: options)
    module.Artifact, module.Table = FakeArtifact, lambda **options: options
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv("WANDB_API_KEY", "k")
    return run
