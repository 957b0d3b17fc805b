"""A failure of wandb costs a run one warning and nothing more."""

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from autolora.configs.schema import RunConfig
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.tracking.wandb_id import read_identity
from autolora.engine.tracking.wandb_run import Wandb
from tests.helpers.fake_wandb import FakeRun, fake_wandb


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No word about wandb anywhere; returns the home folder."""
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_files_are_sent_only_when_asked_for(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_wandb(monkeypatch)
    (tmp_path / "x").write_text("x")
    for wanted in (("--tracking.artifacts", "true"), ("--tracking.artifacts", "false"), ()):
        wandb = Wandb(tiny_config("--tracking.wandb", "offline", *wanted), tmp_path, tags=["t" * 99])
        wandb.keep("x", "ranks", tmp_path / "x")
        wandb.keep("absent", "ranks", tmp_path / "absent")
    assert [artifact.name for artifact in run.artifacts] == ["x"]
    assert run.options["tags"] == ["t" * 64]


def test_an_artifact_of_a_run_with_a_long_name_of_blanks(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_wandb(monkeypatch)
    (tmp_path / "x").write_text("x")
    wandb = Wandb(tiny_config("--tracking.wandb", "offline", "--tracking.artifacts", "true"), tmp_path)
    wandb.keep("my run, 2nd: " + 200 * "x" + "-ranks", "ranks", tmp_path / "x")
    assert run.artifacts[-1].name.endswith("xx-ranks")
    assert wandb.alive, "wandb takes no blanks in the name of an artifact"


@pytest.mark.parametrize("fails", ["init", "define_metric", "log", "finish"])
def test_a_failing_wandb_is_one_warning_and_nothing_more(
    tiny_config: Callable[..., RunConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    log_lines: list[str],
    fails: str,
) -> None:
    run = fake_wandb(monkeypatch, fails)
    wandb = Wandb(tiny_config("--tracking.wandb", "offline"), tmp_path)
    for _ in range(3):
        wandb.log({"x": 1})
    wandb.image("figure", tmp_path / "x.png")
    wandb.finish({"x": 1})
    began = [] if fails == "init" else [f"INFO wandb: offline, the curves are in {tmp_path}/runs/tiny/wandb"]
    assert log_lines == [*began, f"WARNING wandb is switched off for this run: {fails} broke"]
    assert (len(run.logged) == 4) is (fails == "finish")
    ended = None if fails in ("init", "finish") else 1
    assert run.exit_code == ended, "wandb would give it to the next cell of a study"


def test_what_goes_on_goes_on_in_the_same_wandb_run(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_wandb(monkeypatch)

    def begun(mode: str) -> Any:
        Wandb(tiny_config("--tracking.wandb", mode), tmp_path)
        return run.options.get("id")

    first = begun("online")
    assert first
    assert run.options["resume"] == "allow"
    assert begun("online") == first
    assert begun("offline") is None, "synced, the second would replace the first"
    folder = RunFolder(tmp_path)
    assert folder.wandb_id.read_text() == f"me/autolora/{first}"


def test_an_unreachable_wandb_is_gone_on_with_offline(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    run = fake_wandb(monkeypatch)
    reachable = sys.modules["wandb"].init

    def init(**options: Any) -> FakeRun:
        if options["mode"] == "online":
            raise RuntimeError("timed out\nlong story")
        return reachable(**options)  # type: ignore[no-any-return]

    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    Wandb(tiny_config("--tracking.wandb", "online"), tmp_path).log({"x": 1})
    assert run.options["mode"] == "offline"
    assert run.logged == [{"x": 1}]
    assert log_lines == ["WARNING wandb cannot be reached, the curves are kept offline for wandb sync: timed out"]


def test_a_chart_has_no_more_rows_than_wandb_keeps(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb cut 60 layers at 201 points after the 49th layer, without a word."""
    run = fake_wandb(monkeypatch)
    wandb = Wandb(tiny_config("--tracking.wandb", "offline"), tmp_path)
    steps = list(range(0, 2001, 10))
    curves = {f"layer {number}": [float(number)] * 200 + [-1.0] for number in range(60)}
    wandb.lines("trajectories/entropy_of_alpha", steps, curves)
    (chart,) = run.logged[-1].values()
    assert chart["keys"] == list(curves)
    assert 9_000 < sum(map(len, chart["ys"])) <= 10_000
    assert (chart["xs"][0], chart["xs"][-1]) == (0, 2000)
    assert {curve[-1] for curve in chart["ys"]} == {-1.0}
    assert {len(curve) for curve in chart["ys"]} == {len(chart["xs"])}


def test_steps_that_a_killed_search_takes_again_are_not_sent_again(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_wandb(monkeypatch)
    run.summary |= {"search/step": 20, "retrain/step": 5}  # of the killed run
    wandb = Wandb(tiny_config("--tracking.wandb", "online"), tmp_path)
    wandb.resumes()
    for step in (10, 20, 30):
        wandb.log({"search/step": step, "search/train_loss": 0.5})
    for step in (5, 6):
        wandb.log({"retrain/step": step, "retrain/loss": 0.5})
    wandb.log({"eval/accuracy": 1.0})
    assert [next(iter(values.values())) for values in run.logged] == [30, 6, 1.0]


def test_a_stage_that_begins_anew_sends_all_its_steps(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A search that died before its first checkpoint begins again, perhaps by other settings."""
    run = fake_wandb(monkeypatch)
    run.summary["search/step"] = 90
    Wandb(tiny_config("--tracking.wandb", "online"), tmp_path).log({"search/step": 10})
    assert run.logged == [{"search/step": 10}]


def test_numbers_of_layers_make_no_columns_of_the_summary(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb's table of runs shows 500 columns; a model of 36 layers had 648 of such numbers alone."""
    run = fake_wandb(monkeypatch)
    Wandb(tiny_config("--tracking.wandb", "offline"), tmp_path)
    kinds = ("alpha", "contribution", "entropy", "rank", "answer/rank")
    assert all(run.metrics[f"{kind}/*"]["summary"] == "none" for kind in kinds)
    assert all(run.metrics[f"{kind}/*"]["hidden"] for kind in (*kinds, "share"))
    assert run.metrics["retrain/*"]["step_metric"] == "retrain/step"


@pytest.mark.parametrize(
    ("given", "environment", "project"),
    [((), None, "autolora"), ((), "team", "team"), (("--tracking.project", "mine"), "team", "mine")],
)
def test_the_project_is_the_users(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: tuple[str, ...],
    environment: str | None, project: str,
) -> None:  # fmt: skip
    """WANDB_PROJECT was overlooked."""
    run = fake_wandb(monkeypatch)
    if environment:
        monkeypatch.setenv("WANDB_PROJECT", environment)
    else:
        monkeypatch.delenv("WANDB_PROJECT", raising=False)
    Wandb(tiny_config("--tracking.wandb", "offline", *given), tmp_path)
    assert run.options["project"] == project


def test_what_goes_on_goes_on_in_the_same_project(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another shell, without WANDB_PROJECT, the id would name a run of another project."""
    run, place = fake_wandb(monkeypatch), RunFolder(tmp_path).wandb_id

    def sent_to() -> tuple[str, ...]:
        found = read_identity(place)
        assert found is not None
        return found

    monkeypatch.setenv("WANDB_PROJECT", "team")
    Wandb(tiny_config("--tracking.wandb", "online"), tmp_path)
    first = run.options["id"]
    assert sent_to() == ("me", "team", first)
    monkeypatch.delenv("WANDB_PROJECT")
    Wandb(tiny_config("--tracking.wandb", "online"), tmp_path)
    assert (run.options["project"], run.options["id"]) == ("team", first)
    Wandb(tiny_config("--tracking.wandb", "online", "--tracking.project", "mine"), tmp_path)
    assert (run.options["project"], run.options["id"]) == ("mine", first)
    assert sent_to() == ("me", "mine", first)


def test_what_goes_on_goes_on_under_the_same_entity(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another shell, without WANDB_ENTITY, a second wandb run began, under the user's own name."""
    run, place = fake_wandb(monkeypatch), RunFolder(tmp_path).wandb_id
    monkeypatch.setenv("WANDB_ENTITY", "team")
    Wandb(tiny_config("--tracking.wandb", "online"), tmp_path)
    assert run.options["entity"] is None, "wandb reads WANDB_ENTITY itself"
    first = run.options["id"]
    assert place.read_text() == f"team/autolora/{first}"
    monkeypatch.delenv("WANDB_ENTITY")
    Wandb(tiny_config("--tracking.wandb", "online"), tmp_path)
    assert (run.options["entity"], run.options["id"]) == ("team", first)
    Wandb(tiny_config("--tracking.wandb", "online", "--tracking.entity", "mine"), tmp_path)
    assert run.options["entity"] == "mine"
    assert place.read_text() == f"mine/autolora/{first}"


def test_offline_curves_are_named_where_an_overwrite_will_move_them(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    fake_wandb(monkeypatch)
    config = tiny_config("--tracking.wandb", "offline")
    Wandb(config, Path(config.runs_folder) / ".tiny.overwrite")
    assert log_lines == [f"INFO wandb: offline, the curves are in {config.runs_folder}/tiny/wandb"]


def test_the_id_that_a_sweep_gives_is_kept(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fake_wandb(monkeypatch)
    init = sys.modules["wandb"].init

    def other(**options: Any) -> FakeRun:
        init(**options)
        run.entity, run.project, run.id = "team", "of the sweep", "trial"
        return run

    monkeypatch.setattr(sys.modules["wandb"], "init", other)
    Wandb(tiny_config("--tracking.wandb", "online"), tmp_path)
    assert RunFolder(tmp_path).wandb_id.read_text() == "team/of the sweep/trial"


def test_a_server_that_takes_nothing_more_does_not_hold_the_run(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, log_lines: list[str]
) -> None:
    run = fake_wandb(monkeypatch)

    def waits(exit_code: int) -> None:
        raise TimeoutError("Timed out")

    monkeypatch.setattr(run, "finish", waits)
    config = tiny_config("--tracking.wandb", "online")
    Wandb(config, Path(config.runs_folder) / ".tiny.overwrite").finish()
    assert log_lines[-1] == (
        f"WARNING wandb did not take the rest of the curves within 300 seconds; to send them: wandb sync "
        f"{config.runs_folder}/tiny/wandb/run-1-x"
    )


def stopped() -> None:
    raise Interrupted(143)


def test_a_second_signal_inside_wandb_ends_the_run(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes as an exception wherever the program is; taken for a failure of wandb, the run would go on."""
    run = fake_wandb(monkeypatch)
    monkeypatch.setattr(run, "log", lambda values: stopped())
    with pytest.raises(Interrupted), Wandb(tiny_config("--tracking.wandb", "online"), tmp_path) as wandb:
        wandb.log({"x": 1})
    assert run.exit_code == 255
    monkeypatch.setattr(sys.modules["wandb"], "init", lambda **options: stopped())
    with pytest.raises(Interrupted):
        Wandb(tiny_config("--tracking.wandb", "online"), tmp_path)


@pytest.mark.slow
@pytest.mark.usefixtures("bare")
def test_an_offline_run_is_on_disk_for_wandb_sync(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, log_lines: list[str]
) -> None:
    wandb = Wandb(tiny_config("--tracking.wandb", "auto"), tmp_path)
    wandb.log({"search/step": 10, "alpha/layer.query/0": 0.25})
    wandb.finish({"metrics": {"accuracy": 0.75}})
    assert log_lines == [f"INFO wandb: offline, the curves are in {tmp_path}/runs/tiny/wandb"]
    (record,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    # wandb's own process may write a moment after `finish` has returned.
    end = time.monotonic() + 60
    while b"accuracy" not in record.read_bytes() and time.monotonic() < end:
        time.sleep(0.05)
    assert b"accuracy" in record.read_bytes()
    assert b"alpha/layer.query/0" in record.read_bytes()
    # wandb's process would serve the forks of later tests, which then have none of their own.
    importlib.import_module("wandb").teardown()
