"""Studies on a real Ray: the results of the serial launcher, a machine that dies in the middle, what is refused."""

import dataclasses
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.configs.schema_study import RayConfig, StudyConfig
from autolora.engine.command import run_request
from autolora.engine.run.interrupt import Interrupted, StopRequest, watch_signals
from autolora.engine.study.folder import StudyFolder
from autolora.engine.study.launchers import beginnings
from autolora.engine.study.launchers.base import Job, Running
from autolora.engine.study.launchers.on_ray import (
    _connect,
    _import_ray,
    _machines,
    _refuse_silent,
    _room_for_a_cell,
    _run_all,
    _surroundings,
    check_ray,
    on_ray,
)
from autolora.engine.study.stage import run_study
from tests.helpers.studies import VARIANTS, job

ray = pytest.importorskip("ray", reason="needs ray: an optional package")

MEMORY = 80 * 2**20


def on(config: RunConfig, launcher: str, runs: Path, **more: Any) -> RunConfig:
    study = dataclasses.replace(config.study, launcher=launcher, ray=RayConfig(**more))  # type: ignore[arg-type]
    return dataclasses.replace(config, study=study, runs_folder=str(runs))


def results(config: RunConfig, stop: StopRequest | None = None) -> pd.DataFrame:
    folder = run_study(Request(config, "all", False, "study.yaml"), stop or StopRequest())
    return pd.read_parquet(folder.results)


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sums in one order, as in a worker with one core."""
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two machines of one core each; the first is the one that this process belongs to."""
    _import_ray()
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
    )
    made.add_node(num_cpus=1, object_store_memory=MEMORY)
    made.wait_for_nodes()
    ray.init(
        address=made.address, log_to_driver=False, logging_level=logging.ERROR, configure_logging=False,
        runtime_env={"env_vars": _surroundings(here=True)},
    )  # fmt: skip
    yield made
    ray.shutdown()
    made.shutdown()


@pytest.mark.slow
def test_results_are_those_of_the_serial_launcher(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny_config("--retrain.learning_rates", "[1e-6,3e-2]", "--retrain.max_steps", "8")
    variants = {name: VARIANTS[name] for name in ("shuffled", "autolora")}
    config = dataclasses.replace(config, study=StudyConfig({"seed": [0, 1]}, variants, sweep_once=True))
    serial = results(on(config, "serial", tmp_path / "serial"))
    parallel = on(config, "ray", tmp_path / "ray", cpus=0.5)
    run_request(Request(parallel, "all", False, "study.yaml"), StopRequest())
    found = pd.read_parquet(StudyFolder(tmp_path / "ray" / "tiny").results)
    assert len(found) == 4
    same = [name for name in serial.columns if "seconds" not in name and "memory" not in name]
    pd.testing.assert_frame_equal(found[same], serial[same])
    assert not ray.is_initialized(), "what the study began it ends"


@pytest.mark.slow
def test_a_machine_that_dies_costs_nothing_but_time(
    cluster: Any,
    tiny_config: Callable[..., RunConfig],
    tmp_path: Path,
    log_lines: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beginnings, "SECONDS_BETWEEN_LOOKS", 0)  # these cells may end sooner
    # So many steps that the first cell still runs when the other begins, also on a busy machine.
    config = tiny_config("--search.steps", "600", "--search.checkpoint_every", "5", "--search.patience", "0")
    config = dataclasses.replace(config, study=StudyConfig({"seed": [0, 1]}))

    def kill() -> None:
        cells = StudyFolder(tmp_path / "ray" / "tiny").cells
        until = time.monotonic() + 120
        while len({path.parent for path in cells.glob("*/search/checkpoint/*")}) < 2 and time.monotonic() < until:
            time.sleep(0.1)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    killer = threading.Thread(target=kill)
    killer.start()
    found = results(on(config, "ray", tmp_path / "ray"))
    killer.join()
    assert sum("its worker died" in line for line in log_lines) == 1, log_lines
    finished = sorted(line.split(": ")[1] for line in log_lines if " finished: " in line)
    assert finished == ["seed-0", "seed-1"]
    assert {line.split(": ")[1] for line in log_lines if "cell begins: " in line} == {"seed-0", "seed-1"}
    serial = results(on(config, "serial", tmp_path / "serial"))
    same = [name for name in serial.columns if "seconds" not in name and "memory" not in name]
    pd.testing.assert_frame_equal(found[same], serial[same])


@pytest.mark.slow
def test_a_signal_saves_every_cell(tiny_config: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny_config("--search.steps", "100000", "--search.checkpoint_every", "100000", "--search.patience", "0")
    config = on(dataclasses.replace(config, study=StudyConfig({"seed": [0, 1]})), "ray", tmp_path, cpus=0.5)
    cells = StudyFolder(tmp_path / "tiny").cells

    over = threading.Event()

    def ask() -> None:
        while len(list(cells.glob("*/config.yaml"))) < 2 and not over.wait(0.1):
            pass
        if not over.wait(5):
            os.kill(os.getpid(), signal.SIGTERM)

    asker = threading.Thread(target=ask)
    with watch_signals() as stop:
        asker.start()
        try:
            with pytest.raises(Interrupted) as stopped:
                results(config, stop)
        finally:
            over.set()
            asker.join()
    assert stopped.value.code == 143
    assert len(list(cells.glob("*/search/checkpoint"))) == 2


@pytest.mark.slow
def test_a_cluster_is_asked_and_let_go_before_the_study_begins() -> None:
    _import_ray()
    from ray.cluster_utils import Cluster

    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": MEMORY, "include_dashboard": False}
    )
    try:
        with pytest.raises(
            UserError, match=r"^--study\.ray\.cpus: 9 is not allowed; the largest of 1 machines has 1$"
        ):
            check_ray(StudyConfig(ray=RayConfig(address=made.address, cpus=9)))
        for _ in range(2):
            check_ray(StudyConfig(ray=RayConfig(address=made.address, gpus=0)))
            assert not ray.is_initialized()
    finally:
        made.shutdown()


class Machines:
    """A cluster of which only the resources are known."""

    def __init__(self, *resources: dict[str, float]) -> None:
        self.resources = resources

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": r} for r in self.resources] + [{"Alive": False, "Resources": {"GPU": 99}}]


def test_a_cell_gets_a_gpu_where_there_is_one() -> None:
    room = _room_for_a_cell(_machines(Machines({"CPU": 4.0}, {"CPU": 4.0, "GPU": 2.0})), RayConfig())
    assert room == {"num_cpus": 1.0, "num_gpus": 1.0}
    assert _room_for_a_cell(_machines(Machines({"CPU": 4.0})), RayConfig(cpus=2)) == {"num_cpus": 2.0, "num_gpus": 0.0}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (RayConfig(cpus=65), r"^--study\.ray\.cpus: 65 is not allowed; the largest of 2 machines has 64$"),
        (RayConfig(gpus=2), r"^--study\.ray\.gpus: 2 is not allowed; the largest of 2 machines has 1$"),
        (RayConfig(cpus=8, gpus=1), r"^--study\.ray\.cpus: no machine has 8 cores and 1 GPUs at once for a cell"),
    ],
)
def test_more_than_any_machine_has_is_refused(settings: RayConfig, message: str) -> None:
    with pytest.raises(UserError, match=message):
        _room_for_a_cell(_machines(Machines({"CPU": 64.0}, {"CPU": 4.0, "GPU": 1.0})), settings)


def test_cells_begin_in_their_order_also_those_that_read_another() -> None:
    """Else a study that is stopped would have of each seed only the cells that read no other."""
    begun: list[str] = []

    def begin(request: str, folder: str) -> str:
        begun.append(request)
        return request

    fake = SimpleNamespace(
        remote=lambda **_: lambda _: SimpleNamespace(remote=begin),
        wait=lambda references, **_: (references[:1], references[1:]),
        get=lambda reference: [],
    )
    names = {"a": (), "a by shares": ("a",), "b": (), "b by shares": ("b",)}
    jobs = [Job(name, lambda name=name: name, frozenset(after)) for name, after in names.items()]  # type: ignore[misc,return-value]
    assert _run_all(fake, {}, Running(jobs), StopRequest(), lambda: 1) == []
    assert begun == list(names)


def test_secrets_are_not_handed_to_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = ("HF_HOME", "TOKENIZERS_PARALLELISM", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    for name in ("HF_TOKEN", "WANDB_API_KEY", *settings):
        monkeypatch.setenv(name, "x")
    told = _surroundings(here=False)
    assert set(settings) <= told.keys(), "a tokenizer is no token"
    assert not {"HF_TOKEN", "WANDB_API_KEY"} & told.keys()


def check_or_run(settings: StudyConfig, *, checked: bool) -> None:
    check_ray(settings) if checked else on_ray(Running([job("a")]), settings, StopRequest())


@pytest.mark.parametrize("checked", [True, False])
def test_an_address_without_a_cluster_is_one_line(checked: bool) -> None:
    settings = StudyConfig(ray=RayConfig(address="127.0.0.1:1"))
    with pytest.raises(UserError, match=r"^--study\.ray\.address: no cluster at 127\.0\.0\.1:1"):
        check_or_run(settings, checked=checked)


def test_an_ipv6_address_is_looked_up_without_its_brackets(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def connect(place: tuple[str, int], timeout: float) -> Any:
        asked.append(place)
        return SimpleNamespace(close=lambda: None)

    monkeypatch.setattr("socket.create_connection", connect)
    for address in ("[::1]:6379", "ray://[fe80::2]:10001", "10.0.0.1:6379"):
        _refuse_silent(address)
    assert asked == [("::1", 6379), ("fe80::2", 10001), ("10.0.0.1", 6379)]


def test_a_ray_that_does_not_start_here_is_not_said_to_be_a_wrong_address() -> None:
    def init(**_: Any) -> None:
        raise RuntimeError("no room in /dev/shm\nand more")

    with pytest.raises(UserError) as refused:
        _connect(SimpleNamespace(init=init), RayConfig())
    assert str(refused.value).startswith(
        "--study.launcher: Ray does not start on this machine (no room in /dev/shm); allowed: serial, or ray with"
    )


@pytest.mark.parametrize("checked", [True, False])
def test_without_ray_the_user_is_told(monkeypatch: pytest.MonkeyPatch, checked: bool) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"^--study\.launcher: ray is not installed"):
        check_or_run(StudyConfig(), checked=checked)


def test_more_than_this_machine_has_is_known_without_starting_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    check_ray(StudyConfig(ray=RayConfig(cpus=2, gpus=1)))
    for settings, key in ((RayConfig(cpus=3), "cpus: 3"), (RayConfig(gpus=2), "gpus: 2")):
        with pytest.raises(UserError, match=rf"^--study\.ray\.{key} is not allowed; the largest of 1 machines has"):
            check_ray(StudyConfig(ray=settings))
    assert not ray.is_initialized()
