"""wandb: alpha trajectories, losses, rank map and tables; offline without a key; it never stops a
run."""

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import wandb
from wandb.proto.wandb_internal_pb2 import Record

from tests.contract.conftest import Tiny
from tests.contract.program import Fork, refused, succeed
from tests.contract.readers import read

BLOCK = 32768
HEAD = 7
FULL = 1
LAST = 4
OFFLINE = ("--tracking.wandb", "offline")
SEARCH = {
    "search/train_loss",
    "search/val_loss",
    "search/implicit_to_direct",
    "search/cosine",
    "search/seconds",
}


class OfflineRun:
    """All records of the one offline run under `folder`/wandb: a LevelDB log of wandb's own
    protobuf records."""

    def __init__(self, folder: Path) -> None:
        (self.root,) = folder.glob("wandb/offline-run-*")
        (file,) = self.root.glob("run-*.wandb")
        self.records = []
        for part in parts(file.read_bytes()):
            record = Record()
            record.ParseFromString(part)
            self.records.append(record)

    def of_kind(self, kind: str) -> list[Any]:
        """The records of a kind: "run" (name, group), "history" (logged values), "exit"."""
        return [
            getattr(record, kind)
            for record in self.records
            if record.WhichOneof("record_type") == kind
        ]

    @property
    def history(self) -> list[dict[str, Any]]:
        """The logged values, a dictionary for each call."""
        return [values_of(logged.item) for logged in self.of_kind("history")]

    @property
    def exit_code(self) -> int | None:
        """The exit code that wandb recorded; None if the run has not ended."""
        return next((end.exit_code for end in self.of_kind("exit")), None)

    def media(self, value: dict[str, Any]) -> Path:
        """The file of a logged picture or table."""
        return self.root / "files" / value["path"]


def values_of(items: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        keys = list(item.nested_key) or [item.key]
        node = found
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = json.loads(item.value_json)
    return found


def parts(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log after wandb's own head, in chunks with checksum, length and kind
    of which a block holds whole ones; wandb may still be writing the last."""
    assert content[:4] == b":W&B"
    at = HEAD
    held = b""
    while at + HEAD <= len(content):
        room = BLOCK - at % BLOCK
        if room < HEAD:
            at += room
            continue
        length = int.from_bytes(content[at + 4 : at + 6], "little")
        kind = content[at + 6]
        if at + HEAD + length > len(content):
            return
        held += content[at + HEAD : at + HEAD + length]
        at += HEAD + length
        if kind in (FULL, LAST):
            yield held
            held = b""


@pytest.fixture(scope="module", autouse=True)
def quick_figures() -> None:
    """Pictures are drawn here."""


@pytest.fixture(scope="module", autouse=True)
def _no_wandb_left_behind() -> Iterator[None]:
    """wandb's process would serve the forks of later tests, which then have none of their own."""
    yield
    wandb.teardown()


@pytest.fixture(autouse=True)
def _without_a_key(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    wandb.teardown()  # it would remember the key of a test before
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))


def ended(folder: Path) -> OfflineRun:
    """The run once wandb's own process has written its end, which may be a moment after the
    command's."""
    end = time.monotonic() + 60
    while (run := OfflineRun(folder)).exit_code is None:
        assert time.monotonic() < end, "wandb did not write its last records"
        time.sleep(0.1)
    return run


def test_without_a_key_all_that_is_promised_is_kept_offline(tiny: Tiny, folder: Path) -> None:
    succeed(*tiny("--measure.rows", "1000", "--tracking.wandb", "auto"))
    run = ended(folder)
    assert run.exit_code == 0
    record = read(folder / "ranks.json")
    result = read(folder / "metrics.json")
    points = [values for values in run.history if "search/train_loss" in values]
    assert [values["search/step"] for values in points] == [2, 4, 6]
    assert all(values.keys() >= SEARCH for values in points)
    alpha = sorted(value for key, value in points[-1].items() if key.startswith("alpha/"))
    assert alpha == pytest.approx(sorted(a for layer in record["layers"] for a in layer["alpha"]))
    pictures = {run.media(values["search/rank_map"]).name for values in points}
    assert len(pictures) == 3, "the rank map, a picture a step"
    keys = {key for values in run.history for key in values}
    assert any("trajectories/" in key for key in keys)
    assert any(key.startswith("retrain/") for key in keys)
    assert any(
        values.get("eval/accuracy") == result["metrics"]["accuracy"] for values in run.history
    )
    assert {"measure/curve", "choose/ranks"} <= keys


def test_online_without_a_key_is_refused_before_anything_is_written(
    tiny: Tiny, tmp_path: Path
) -> None:
    assert "--tracking.wandb" in refused(*tiny("--tracking.wandb", "online"))
    assert not (tmp_path / "runs").exists()


def test_a_run_that_was_stopped_is_not_shown_as_finished(
    tiny: Tiny, folder: Path, tmp_path: Path
) -> None:
    argv = tiny("--search.steps", "100000", "--search.patience", "0", *OFFLINE)
    process = Fork(argv, tmp_path / "out.txt", lambda: os.environ.pop("WANDB_MODE", None))
    process.wait_for((folder / "search" / "metrics.jsonl").exists)
    assert process.kill(signal.SIGTERM) == 143
    assert ended(folder).exit_code != 0


def test_a_study_is_a_group_with_a_table_of_its_own(tiny: Tiny, folder: Path) -> None:
    succeed(
        *tiny(
            "--method",
            "lora",
            "--retrain.max_steps",
            "1",
            "--study.axes",
            "{seed: [0, 1]}",
            *OFFLINE,
        )
    )
    run = ended(folder)
    (table,) = (values["study/results"] for values in run.history if "study/results" in values)
    assert len(json.loads(run.media(table).read_text())["data"]) == 2
    (cell, *others) = (folder / "cells").iterdir()
    assert len(others) == 1
    assert OfflineRun(cell).of_kind("run")[0].run_group == "tiny"


@pytest.mark.parametrize("what", ["init", "Run.log"])
def test_a_wandb_that_fails_stops_no_run(
    tiny: Tiny, folder: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise BrokenPipeError("broken")

    monkeypatch.setattr(f"wandb.{what}", fails)
    succeed(*tiny("--method", "lora", *OFFLINE))
    assert read(folder / "metrics.json")["steps"]["retrain"] == 4


@pytest.mark.soak
def test_a_run_whose_wandb_process_is_killed_ends_well(
    tiny: Tiny, folder: Path, tmp_path: Path
) -> None:
    argv = tiny("--search.steps", "60", "--search.patience", "0", *OFFLINE)
    process = Fork(argv, tmp_path / "out.txt", lambda: os.environ.pop("WANDB_MODE", None))
    process.wait_for((folder / "search" / "metrics.jsonl").exists)
    services = [
        one for one in psutil.Process(process.pid).children() if "wandb" in " ".join(one.cmdline())
    ]
    assert services, "wandb has a process of its own"
    for service in services:
        service.kill()
    process.succeed()
    assert read(folder / "metrics.json")["steps"]["retrain"] == 4


@pytest.mark.soak
@pytest.mark.parametrize(
    "answers", [False, True], ids=["nobody listens", "takes calls and never answers"]
)
def test_a_run_that_cannot_reach_wandb_is_kept_offline(
    tiny: Tiny, folder: Path, tmp_path: Path, answers: bool
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        if not answers:
            server.close()

        def prepare() -> None:
            os.environ.pop("WANDB_MODE", None)
            os.environ.update(WANDB_BASE_URL=address, WANDB_API_KEY="a" * 40)

        Fork(tiny("--tracking.wandb", "online"), tmp_path / "out.txt", prepare).succeed()
    assert read(folder / "metrics.json")["steps"]["retrain"] == 4
    assert list((folder / "wandb").glob("offline-run-*/*.wandb"))
