"""What of a verdict goes to wandb."""

from collections.abc import Callable
from pathlib import Path

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.run.folder import RunFolder
from autolora.engine.verdict.tracking import track_verdict
from tests.helpers.fake_wandb import fake_wandb
from tests.helpers.verdict_file import FOUND


def test_its_numbers_and_its_picture_go_to_the_run_of_its_search(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They went nowhere."""
    run, folder = fake_wandb(monkeypatch), RunFolder(tmp_path)
    folder.wandb_id.write_text("me/autolora/searched")
    write_json(folder.verdict_summary, FOUND)
    track_verdict(tiny_config("--tracking.wandb", "online"), folder, {"verdict": tmp_path / "v.png"})
    assert run.options["id"] == "searched"
    assert run.options["job_type"] == "autolora/darts"
    assert run.logged == [{"figures/verdict": "v.png"}]
    assert run.summary["verdict/ending"] == FOUND["ending"]
    assert run.summary["verdict/difference"] == FOUND["difference"]
    assert run.exit_code == 0
