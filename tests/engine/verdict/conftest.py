"""Verdicts without trainings."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import StopRequest
from autolora.engine.verdict import stage
from autolora.engine.verdict.stage import run_verdict
from tests.helpers.methods import LEARNED, NAMES, SIZE, K
from tests.helpers.verdicts import FakeLauncher


@pytest.fixture
def verdict(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, Any], RunFolder]]:
    """verdict(launcher, "--verdict.arms", "[uniform]"): verdict.json of ranks that lie in the run's folder, and the
    folder; no rows are loaded."""

    def judge(
        launcher: FakeLauncher,
        *arguments: str,
        ranks: list[int] | None = LEARNED,
        overwrite: bool = False,
    ) -> tuple[dict[str, Any], RunFolder]:
        config = tiny_config("--lora.target_modules", "[query, value]", "--lora.k", str(K), *arguments)
        folder = RunFolder.of(config)
        folder.root.mkdir(parents=True, exist_ok=True)
        if ranks is not None:
            layers = [{"name": name, "rank": rank} for name, rank in zip(NAMES, ranks, strict=True)]
            write_json(folder.ranks, {"k": K, "layers": layers})
        write_json(folder.search_summary, {"parameters_per_rank": dict.fromkeys(NAMES, SIZE)})
        monkeypatch.setattr(stage, "launch", launcher)
        monkeypatch.setattr(Context, "know_rows", lambda *_: None)
        run_verdict(Request(config, "verdict", overwrite, "tiny.yaml"), StopRequest())
        return json.loads(folder.verdict_summary.read_text()), folder

    return judge
