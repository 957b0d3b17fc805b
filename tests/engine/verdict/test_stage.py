"""--stage verdict without trainings: what is trained, of which trainings the gain is the mean, and
--overwrite."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import Head, Lora, RunConfig
from autolora.engine.disk.files import write_json
from autolora.engine.interrupt import StopRequest
from autolora.engine.store.folder import RunFolder
from autolora.engine.study.cells import Cell
from autolora.engine.verdict import stage
from autolora.engine.verdict.stage import run_verdict
from tests.helpers.finished import RESULT
from tests.helpers.methods import LEARNED, NAMES, SIZE, K

pytestmark = [pytest.mark.trains, pytest.mark.usefixtures("quick_figures")]

ROWS = 600
Loss = Callable[[str, int], float]
"""The mean loss of an arm in the pair of this number."""


def better(by: float) -> Loss:
    """Losses with which the learned ranks are better than all others by about `by` nats; LoRA gains
    1 nat."""
    noise = np.random.default_rng(3).normal(0, 0.01, 30)

    def loss(arm: str, pair: int) -> float:
        return {"learned": 1.0, "head": 2.0}.get(arm, 1.0 + by + float(noise[pair]))

    return loss


class FakeLauncher:
    """Writes what a training of each cell would have written."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.trained: list[RunConfig] = []

    def __call__(self, cells: Sequence[Cell], settings: Any, stop: StopRequest) -> list[str]:
        for cell in cells:
            self.trained.append(cell.config)
            kind, number, *arm = cell.name.split("-")
            self.write(cell.config, self.loss(arm[0] if arm else kind, int(number)))
        return []

    def write(self, config: RunConfig, loss: float) -> None:
        folder = RunFolder.of(config)
        rows = np.random.default_rng(0).normal(loss, 0.3, ROWS)
        rows += loss - rows.mean()
        folder.adapter.mkdir(parents=True)
        pd.DataFrame({"loss": rows, "weight": np.ones(ROWS), "source": np.arange(ROWS)}).to_parquet(
            folder.row_losses
        )
        size = (
            len(NAMES) * SIZE * config.lora.r if isinstance(config, Lora) else sum(LEARNED) * SIZE
        )
        write_json(folder.metrics, RESULT | {"lora_parameters": size, "base_weights": "digest"})


@pytest.fixture
def verdict(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, Any], RunFolder]]:
    """verdict(launcher, "--verdict.pairs", "24"): verdict.json of ranks that lie in the run's
    folder, and the folder; no rows are loaded."""

    def judge(
        launcher: FakeLauncher,
        *arguments: str,
        ranks: Sequence[int] = LEARNED,
        overwrite: bool = False,
    ) -> tuple[dict[str, Any], RunFolder]:
        config = tiny_config(
            "--lora.target_modules", "[query, value]", "--lora.k", str(K), *arguments
        )
        folder = RunFolder.of(config)
        layers = [{"name": name, "rank": rank} for name, rank in zip(NAMES, ranks, strict=True)]
        write_json(folder.ranks, {"k": K, "layers": layers})
        write_json(folder.search_summary, {"parameters_per_rank": dict.fromkeys(NAMES, SIZE)})
        monkeypatch.setattr(stage, "launch", launcher)
        monkeypatch.setattr(stage, "read", lambda *_: None)
        run_verdict(Request(config, "verdict", overwrite, "tiny.yaml"), StopRequest())
        return json.loads(folder.verdict_summary.read_text()), folder

    return judge


def test_the_gain_is_of_both_heads_and_of_all_pairs_also_after_the_time_was_over(
    verdict: Callable[..., Any],
) -> None:
    def loss(arm: str, pair: int) -> float:
        return {"learned": 1.0 + 0.1 * pair, "head": 2.0 + 0.3 * pair}.get(arm, 1.5)

    launcher = FakeLauncher(loss)
    verdict(launcher, "--verdict.minutes", "1e-9")
    assert [config.name for config in launcher.trained] == [
        "pair-01-learned",
        "pair-01-shuffled",
        "head-1",
        "head-2",
    ]
    found, _ = verdict(launcher)
    assert launcher.trained[4].name == "pair-02-learned"
    assert found["gain"] == pytest.approx(2.45 - (1 + 0.1 * (1 + found["pairs"]) / 2))


def test_the_gain_over_a_base_model_without_a_head_is_of_all_pairs_too(
    verdict: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Head, "evaluates_base", True)
    launcher = FakeLauncher(
        lambda arm, pair: {"learned": 1.0 + 0.1 * pair, "head": 2.0}.get(arm, 1.5)
    )
    found, _ = verdict(launcher)
    assert [config.name for config in launcher.trained if config.method == "head"] == ["head-1"]
    assert found["gain"] == pytest.approx(1 - 0.1 * (1 + found["pairs"]) / 2)


def test_an_overwrite_puts_a_finished_verdict_aside_and_judges_anew(
    verdict: Callable[..., Any],
) -> None:
    before, folder = verdict(FakeLauncher(better(0.3)))
    launcher = FakeLauncher(better(-0.3))
    assert verdict(launcher, overwrite=True)[0] == before, "of this command already"
    with pytest.raises(UserError, match="from other ranks"):
        verdict(launcher, ranks=LEARNED[::-1])
    for key, was, now in (("--verdict.pairs", "16", "24"), ("--retrain.batch_size", "8", "4")):
        with pytest.raises(UserError, match=f"{key} {was}, now it is {now}"):
            verdict(launcher, key, now)
    assert json.loads(folder.verdict_summary.read_text()) == before
    found, _ = verdict(launcher, "--verdict.pairs", "24", overwrite=True)
    assert (before["ending"], found["ending"]) == ("matter", "worse")
    assert (
        len(list(folder.root.glob("verdict.old-1/cells/pair-*/metrics.json")))
        == 2 * before["pairs"]
    )
