"""wandb that is killed, or cannot be reached."""

import json
import os
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from autolora.engine.run.folder import RunFolder
from autolora.engine.search.hook import SearchHook
from autolora.engine.tracking import wandb_run
from tests.helpers.faults import Argv
from tests.helpers.processes import Process


@pytest.mark.slow
def test_a_run_whose_wandb_process_is_killed_ends_well(argv: Argv, folder: RunFolder, tmp_path: Path) -> None:
    def prepare() -> None:
        os.environ.pop("WANDB_MODE", None)
        original = SearchHook.after_step

        def after_step(self: Any, engine: Any) -> bool:
            if engine.global_step == 3:
                children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
                services = [c for c in children if b"wandb" in Path(f"/proc/{c}/cmdline").read_bytes()]
                assert services, "wandb has a process of its own"
                for child in services:
                    os.kill(int(child), signal.SIGKILL)
            return original(self, engine)

        SearchHook.after_step = after_step  # type: ignore[method-assign]

    process = Process(argv("--tracking.wandb", "offline"), tmp_path / "out.txt", prepare)
    assert process.wait() == 0, process.output.read_text()
    assert json.loads(folder.metrics.read_text())["steps"]["retrain"] == 4


@pytest.mark.slow
@pytest.mark.parametrize("answers", [False, True], ids=["nobody listens", "takes calls and never answers"])
def test_a_run_whose_wandb_cannot_be_reached_is_kept_offline(
    argv: Argv, folder: RunFolder, tmp_path: Path, answers: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if not answers:
            server.close()

        def prepare() -> None:
            os.environ.pop("WANDB_MODE", None)
            os.environ.update(WANDB_BASE_URL=address, WANDB_API_KEY="a" * 40)
            wandb_run.PATIENCE = 8  # seconds: enough for a run that is kept offline, also on a busy machine

        process = Process(argv("--tracking.wandb", "online"), tmp_path / "out.txt", prepare, draw=not answers)
        assert process.wait() == 0, process.output.read_text()
    assert "wandb cannot be reached, the curves are kept offline" in " ".join(process.output.read_text().split())
    assert json.loads(folder.metrics.read_text())["steps"]["retrain"] == 4
    assert list((folder.root / "wandb").glob("offline-run-*/*.wandb"))
