"""The stage verdict, from a run's ranks to verdict.json: what it trains, when it ends, and what it refuses."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import run
from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_json, write_text
from autolora.engine.retrain.components import components_from
from autolora.engine.retrain.sources import ranks_from
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import OUT_OF_TIME, StopRequest
from autolora.engine.study.launchers import LAUNCHERS, Launcher, Running
from autolora.engine.verdict.arms import seed_of_pair
from autolora.engine.verdict.stage import run_verdict
from tests.helpers.methods import LEARNED, NAMES, SIZE, K
from tests.helpers.verdicts import FakeLauncher, better

ENDINGS = {"matter": (0.3, 8), "worse": (-0.3, 8), "equal": (0.0, 16)}


@pytest.mark.trains
@pytest.mark.parametrize("ending", ENDINGS)
def test_pairs_are_trained_up_to_the_look_that_decides(ending: str, verdict: Callable[..., Any]) -> None:
    by, count = ENDINGS[ending]
    launcher = FakeLauncher(better(by))
    found, folder = verdict(launcher)
    assert (found["ending"], found["pairs"]) == (ending, count)
    assert len(launcher.trained) == 2 * count + 2
    assert found["parameters"] == sum(LEARNED) * SIZE
    assert found["difference"] == pytest.approx(by, abs=0.01)
    low, high = found["interval"]
    assert low < found["difference"] < high
    assert found["gain"] == pytest.approx(1, abs=1e-6)
    assert folder.report.exists()
    again = FakeLauncher(better(by))
    assert verdict(again)[0] == found
    assert not again.trained


@pytest.mark.trains
def test_where_lora_gains_nothing_it_ends_at_the_first_look(verdict: Callable[..., Any]) -> None:
    loss = better(0.3)
    launcher = FakeLauncher(lambda arm, pair: 1.0 if arm == "head" else loss(arm, pair))
    found, _ = verdict(launcher)
    assert (found["ending"], found["pairs"], len(launcher.trained)) == ("undecided", 8, 18)
    assert found["sentence"].startswith("Nothing to gain: ")


@pytest.mark.trains
@pytest.mark.parametrize("ending", [*ENDINGS, "undecided"])
def test_the_command_ends_with_0_whatever_the_verdict_says(
    ending: str, verdict: Callable[..., Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "autolora.problems.machine.waiting.choose_waiting", lambda: None
    )  # it would set variables of this process
    by, _ = ENDINGS.get(ending, (0.3, 8))
    found, folder = verdict(FakeLauncher(better(by), stop_after=9 if ending == "undecided" else None))
    assert found["ending"] == ending
    stop_at_once = FakeLauncher(better(by), stop_after=0)
    monkeypatch.setitem(LAUNCHERS, "serial", Launcher(stop_at_once))
    assert run.main(["--config", str(folder.config), "--stage", "verdict"]) == 0
    assert found["sentence"][:40] in " ".join(capsys.readouterr().out.split())


@pytest.mark.trains
def test_the_members_of_a_pair_differ_in_their_ranks_alone(
    verdict: Callable[..., Any], tiny_config: Callable[..., RunConfig]
) -> None:
    searched = RunFolder.of(tiny_config())
    write_text(searched.search_weights, "")
    write_json(searched.search_summary, {"parameters_per_rank": {}})
    launcher = FakeLauncher(better(0.3))
    options = ("--verdict.arms", "[uniform, random]", "--task.train_rows", "30", "--seed", "5", "--verdict.rows", "77")
    found, folder = verdict(launcher, *options, "--retrain.init", "search", "--verdict.shuffle", "type")
    pair = [config for config in launcher.trained if str(config.name).startswith("pair-02-")]
    assert [config.method for config in pair] == ["lora_ranks", "lora_shuffled", "lora", "lora_random"]
    config, *others = [dataclasses.replace(config, name="x", method="head") for config in pair]
    assert all(other == config for other in others)
    seeds = {number: seed_of_pair(5, number) for number in (1, 2)}
    assert (config.seed, config.task.seed, config.task.unused_rows) == (seeds[2], 5, 77)
    assert (config.retrain.row_losses, config.lora.shuffle) == (True, "type")
    assert all(one.retrain.init == "search" for one in pair)
    assert components_from(pair[1]) == RunFolder(folder.verdict / "cells" / ".." / "..")
    assert "The trainings of the pairs started from components of this run's search" in " ".join(found["notes"])
    assert (folder.verdict / "cells" / ".." / "ranks.json") == ranks_from(config)
    heads = [c for c in launcher.trained if c.method == "head"]
    assert all(head.retrain.init == "scratch" and head.retrain.init_from is None for head in heads)
    assert [(head.name, head.seed, head.task.seed) for head in heads] == [
        ("head-1", seeds[1], 5), ("head-2", seeds[2], 5),
    ]  # fmt: skip
    assert [arm["name"] for arm in found["arms"]] == ["learned", "shuffled", "uniform", "random"]
    assert [len(arm["losses"]) for arm in found["arms"]] == [8] * 4
    # A mean rank of 2.5 costs as much as uniform 3, rounded up.
    assert config.lora.r == 3
    assert found["arms"][2]["parameters"] == 4 * 3 * SIZE
    assert not any(RunFolder.of(c).adapter.exists() for c in launcher.trained)


@pytest.mark.trains
def test_where_the_shuffle_can_change_nothing_nothing_is_trained(verdict: Callable[..., Any]) -> None:
    launcher = FakeLauncher(better(0.3))
    found, _ = verdict(launcher, ranks=[2, 2, 2, 2])
    assert (found["ending"], found["pairs"], found["p"]) == ("undecided", 0, None)
    assert found["sentence"].startswith("Not tested: every layer has rank 2")
    assert not launcher.trained
    # Query and value have ranks of their own, the blocks do not.
    found, _ = verdict(launcher, "--verdict.shuffle", "type", "--name", "types", ranks=[1, 2, 1, 2])
    assert found["ending"] == "undecided", "nothing was tested"
    assert "all layers of one type have equal ranks" in found["sentence"]


@pytest.mark.trains
def test_ranks_of_a_layer_that_the_model_has_not_are_refused(verdict: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    name = "bert.encoder.layer.7.attention.self.query"
    write_json(folder / "ranks.json", {"layers": [{"name": name, "rank": 1}, {"name": NAMES[0], "rank": 2}]})
    with pytest.raises(UserError, match=r"ranks.json: the model has no layer 'bert.encoder.layer.7"):
        verdict(FakeLauncher(better(0.3)), ranks=None)


@pytest.mark.trains
def test_layers_that_the_ranks_do_not_list_have_rank_0(verdict: Callable[..., Any], tmp_path: Path) -> None:
    """Ranks by hand may list only the layers with LoRA; the verdict said without a training that all were equal."""
    folder = tmp_path / "runs" / "tiny"
    folder.mkdir(parents=True)
    write_json(folder / "ranks.json", {"k": K, "layers": [{"name": name, "rank": 2} for name in NAMES[:2]]})
    found, run = verdict(FakeLauncher(better(0.3)), ranks=None)
    assert (found["ending"], found["pairs"]) == ("matter", 8)
    copied = json.loads((run.verdict / "ranks.json").read_text())
    assert {row["name"]: row["rank"] for row in copied["layers"]} == dict.fromkeys(NAMES, 0) | dict.fromkeys(
        NAMES[:2], 2
    )


@pytest.mark.slow
@pytest.mark.trains
def test_an_arm_that_is_asked_for_later_takes_nothing_from_what_is_known(verdict: Callable[..., Any]) -> None:
    before, _ = verdict(FakeLauncher(better(0.3)))
    found, _ = verdict(FakeLauncher(better(0.3), stop_after=0), "--verdict.arms", "[uniform]")
    assert found == before
    found, _ = verdict(FakeLauncher(better(0.3), stop_after=3), "--verdict.arms", "[uniform]")
    changed = {"arms", "notes"}
    assert {k: found[k] for k in found if k not in changed} == {k: before[k] for k in before if k not in changed}
    assert [len(arm["losses"]) for arm in found["arms"]] == [8, 8, 3]
    assert not [note for note in found["notes"] if "commits" in note], "an unfinished training has no commit yet"
    last = FakeLauncher(better(0.3))
    found, _ = verdict(last, "--verdict.arms", "[uniform]")
    assert [str(config.name) for config in last.trained] == [f"pair-{number:02d}-uniform" for number in range(4, 9)]
    assert [len(arm["losses"]) for arm in found["arms"]] == [8, 8, 8]


@pytest.mark.slow
@pytest.mark.trains
def test_the_sentence_names_the_uniform_rank_that_was_compared(verdict: Callable[..., Any]) -> None:
    found, _ = verdict(FakeLauncher(better(0.0)), "--verdict.arms", "[uniform]")
    assert found["sentence"].endswith("the uniform rank 3 was compared, too.")
    found, _ = verdict(FakeLauncher(better(0.0)), "--name", "other")
    assert found["sentence"].endswith("the uniform rank 3 was not compared.")


@pytest.mark.trains
def test_damaged_losses_are_named(verdict: Callable[..., Any]) -> None:
    _, folder = verdict(FakeLauncher(better(0.3), stop_after=7))
    (place,) = folder.verdict.glob("cells/pair-01-learned/row_losses.parquet")
    whole = pd.read_parquet(place)
    place.write_bytes(b"x")
    with pytest.raises(UserError, match=r"row_losses.parquet: not readable as parquet"):
        verdict(FakeLauncher(better(0.3)))
    pd.DataFrame({"loss": [1.0], "weight": [1.0], "source": [0]}).to_parquet(place)
    with pytest.raises(UserError, match=r"row_losses.parquet: its rows are not those"):
        verdict(FakeLauncher(better(0.3)))
    whole.assign(weight=2.0).to_parquet(place)
    with pytest.raises(UserError, match=r"row_losses.parquet: its rows are not those"):
        verdict(FakeLauncher(better(0.3)))
    whole.to_parquet(place)
    for head in folder.verdict.glob("cells/head-*/row_losses.parquet"):
        whole.assign(weight=2.0).to_parquet(head)
    with pytest.raises(UserError, match=r"row_losses.parquet: it was evaluated on other rows than the head alone"):
        verdict(FakeLauncher(better(0.3)))


REFUSED = {
    "a method without a search": (("--method", "lora"), "--stage: 'verdict' is not allowed for --method lora"),
    "rates of which none is chosen": (
        ("--retrain.learning_rates", "[1e-3, 1e-2]"), "--retrain.learning_rates: a verdict trains at one",
    ),
}  # fmt: skip


@pytest.mark.trains
@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_comes_before_anything_is_trained(case: str, verdict: Callable[..., Any]) -> None:
    arguments, message = REFUSED[case]
    launcher = FakeLauncher(better(0.3))
    with pytest.raises(UserError) as found:
        verdict(launcher, *arguments)
    assert str(found.value).startswith(message)
    assert not launcher.trained


@pytest.mark.slow
def test_a_real_verdict_searches_trains_pairs_of_common_rows_and_can_be_resumed(
    tiny_config: Callable[..., RunConfig], log_lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(
        "--lora.target_modules", "[query, value]", "--lora.k", str(K), "--answer.rows", "0", "--task.train_rows", "60",
        "--verdict.rows", "50", "--search.steps", "4", "--retrain.max_steps", "4", "--retrain.learning_rate", "0.03",
        "--verdict.arms", "[uniform]", "--task.max_length", "14",
    )  # fmt: skip
    serial, trained = LAUNCHERS["serial"].run, list[str]()

    def three(running: Running, settings: Any, stop: StopRequest) -> list[str]:
        if len(trained) >= 11:  # two pairs of three, and the heads
            stop.code = OUT_OF_TIME
        trained.extend(job.name for job in running._waiting)
        return serial(running, settings, stop)

    monkeypatch.setitem(LAUNCHERS, "serial", Launcher(three))
    folder = run_verdict(Request(config, "verdict", False, "tiny.yaml"), StopRequest())
    found = json.loads(folder.verdict_summary.read_text())
    assert (found["ending"], found["pairs"]) == ("undecided", 3)
    assert not folder.metrics.exists(), "the run's own retraining is not the verdict's matter"
    cells = {
        name: pd.read_parquet(folder.verdict / "cells" / name / "row_losses.parquet")
        for name in set(trained)
        if (folder.verdict / "cells" / name / "row_losses.parquet").exists()
    }
    assert len(cells) == 11
    assert len({len(table) for table in cells.values()}) == 1
    assert {"test", "unused"} == set(cells["head-1"]["split"])
    means = {name: table["loss"].mean() for name, table in cells.items()}
    assert len({round(mean, 9) for mean in means.values()}) == 11, "no two trainings are the same"
    cut = [line for line in log_lines if line.endswith("longer than task.max_length 14 and were cut")]
    assert cut, "rows were cut"
    assert len(cut) == len(set(cut)), "which is said once, not for each training"


@pytest.mark.trains
def test_ranks_written_by_hand_have_their_own_k_and_their_settings_are_kept(verdict: Callable[..., Any]) -> None:
    launcher = FakeLauncher(better(0.3))
    _, folder = verdict(launcher, "--lora.k", "8", "--verdict.arms", "[uniform]")
    assert {config.lora.k for config in launcher.trained} == {K}
    assert "k: 8" in folder.config.read_text()


@pytest.mark.trains
def test_ranks_that_are_all_0_are_refused(verdict: Callable[..., Any]) -> None:
    with pytest.raises(UserError, match=r"ranks.json: every rank is 0"):
        verdict(FakeLauncher(better(0.3)), ranks=[0, 0, 0, 0])
