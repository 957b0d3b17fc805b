"""Cells side by side on Ray: on this machine, or on a cluster by its address.

The run folders must be on a file system that every machine sees, as a cell whose worker dies resumes on another one.
Ray is an optional dependency; it is imported only when it is asked for.
"""

import logging
import os
import re
import signal
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from autolora.configs.errors import UserError
from autolora.configs.study import RayConfig, StudyConfig
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.run.resources import own_cores
from autolora.engine.study.launchers.base import Job, Running
from autolora.engine.study.launchers.beginnings import Beginnings
from autolora.engine.study.launchers.ray_endings import take
from autolora.engine.study.launchers.ray_worker import run_cell

log = logging.getLogger("autolora")

PROJECT = Path(__file__).resolve().parents[3]
SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_TO_SAVE = 120.0
SECONDS_TO_CONNECT = 10.0
# The environment variables that a worker on another machine gets. Secrets are left out, because Ray writes these
# variables to its logs.
_PASSED_ON = ("HF_", "TRANSFORMERS_", "WANDB_", "TOKENIZERS_", "OMP_WAIT_POLICY", "GOMP_", "CUBLAS_")
_SECRET = re.compile("TOKEN(?!IZERS_)|KEY|SECRET|PASSWORD")
# Makes Ray hide the GPUs from a worker if `study.ray.gpus` is 0.
_NO_GPUS_BUT_ASKED = {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "1"}
# The smallest object store that Ray accepts, in bytes: cells exchange only a line of text.
_OBJECT_STORE = 80 * 2**20

Machine = Mapping[str, float]
"""Name of a resource -> how much of it there is."""


def on_ray(running: Running, settings: StudyConfig, stop: StopRequest) -> list[str]:
    """Runs as many jobs at a time as the cluster has room for; a job whose worker or machine died resumes on another.

    Raises UserError when Ray is not installed, its address does not answer, or no machine has room for one cell.
    """
    if running.over:
        return []
    with _connected(settings.on) as ray:
        machines = _machines(ray)
        room = _room_for_a_cell(machines, settings.on)
        log.info("Ray: %d machine(s), room for %d cells at a time", len(machines), _cells_at_a_time(machines, room))
        # On this machine no cell waits inside Ray, so that each begins in its turn: a study that is stopped has whole
        # seeds. A cluster that grows with its work must see some cells that wait.
        ahead = 1 if settings.on.address is None else 2
        return _run_all(ray, room, running, stop, lambda: ahead * _cells_at_a_time(_machines(ray), room))


def check_ray(settings: StudyConfig) -> None:
    """Raises UserError for what `on_ray` would refuse; asks the cluster, or looks at this machine without starting
    Ray."""
    if settings.on.address is None and not _import_ray().is_initialized():
        _room_for_a_cell([{"CPU": float(own_cores()), "GPU": float(torch.cuda.device_count())}], settings.on)
        return
    with _connected(settings.on) as ray:
        _room_for_a_cell(_machines(ray), settings.on)


@contextmanager
def _connected(settings: RayConfig) -> Iterator[Any]:
    """Ray, connected inside the `with` block; a connection that was open before stays open."""
    ray = _import_ray()
    began_here = not ray.is_initialized()
    if began_here:
        _connect(ray, settings)
    try:
        yield ray
    finally:
        if began_here:
            ray.shutdown()


def _import_ray() -> Any:
    # Ray's own `uv run` hook would build a new environment for each worker; cells need that of this process.
    defaults = {"RAY_ENABLE_UV_RUN_RUNTIME_ENV": "0", "RAY_USAGE_STATS_ENABLED": "0"} | _NO_GPUS_BUT_ASKED
    for key, value in defaults.items():
        os.environ.setdefault(key, value)
    try:
        import ray
    except ImportError as error:
        raise UserError(
            "--study.launcher: ray is not installed; run: pip install 'ray>=2.50' (or start with "
            "`uv run --extra ray run.py`), or take --study.launcher serial"
        ) from error
    return ray


def _connect(ray: Any, settings: RayConfig) -> None:
    here, more = settings.address is None, {}
    if settings.address is not None:
        _refuse_silent(settings.address)
    else:
        # Without num_cpus Ray would count all cores of the machine.
        more = {"object_store_memory": _OBJECT_STORE, "include_dashboard": False, "num_cpus": own_cores()}
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    logging.getLogger("ray").setLevel(logging.ERROR)  # ray.init ignores logging_level if configure_logging=False
    try:
        ray.init(
            address=settings.address or "local", log_to_driver=False, configure_logging=False,
            runtime_env={"env_vars": _surroundings(here=here)}, **more,
        )  # fmt: skip
    except (ConnectionError, RuntimeError, ValueError, OSError, TimeoutError) as error:
        if settings.address is None:
            raise UserError(
                f"--study.launcher: Ray does not start on this machine ({_line(error)}); allowed: serial, or ray with "
                f"the --study.ray.address of a cluster that runs"
            ) from error
        raise _no_cluster(settings.address, error) from error
    # Ray installs its own signal handlers, which would end this process before the cells have saved.
    for number, handler in before.items():
        signal.signal(number, handler)


def _refuse_silent(address: str) -> None:
    """Raises UserError when nothing listens at HOST:PORT, or at [HOST]:PORT, as IPv6 addresses are written: Ray would
    try for minutes and then end this process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdecimal():
        try:
            socket.create_connection(
                (host.removeprefix("[").removesuffix("]"), int(port)), timeout=SECONDS_TO_CONNECT
            ).close()
        except (OSError, OverflowError) as error:
            raise _no_cluster(address, error) from error


def _no_cluster(address: str, error: Exception) -> UserError:
    return UserError(
        f"--study.ray.address: no cluster at {address} ({_line(error)}); allowed: null (this machine), auto or "
        f"HOST:PORT (the cluster that this machine is part of)"
    )


def _line(error: Exception) -> str:
    """The first line of an error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _surroundings(*, here: bool) -> dict[str, str]:
    """The environment variables that workers are given; on this machine they inherit all others."""
    path = os.pathsep.join([str(PROJECT), *filter(None, [os.environ.get("PYTHONPATH")])])
    found = {"PYTHONPATH": path} | _NO_GPUS_BUT_ASKED
    if not here:
        told = {key: value for key, value in os.environ.items() if key.startswith(_PASSED_ON)}
        found |= {key: value for key, value in told.items() if not _SECRET.search(key)}
    return found


def _machines(ray: Any) -> list[Machine]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _room_for_a_cell(machines: Sequence[Machine], settings: RayConfig) -> dict[str, float]:
    """The resources that each cell asks Ray for. Raises UserError when no machine has them: Ray would wait forever."""
    most = {name: max((machine.get(name, 0.0) for machine in machines), default=0.0) for name in ("CPU", "GPU")}
    gpus = float(most["GPU"] > 0) if settings.gpus is None else settings.gpus
    for key, asked, there in (("cpus", settings.cpus, most["CPU"]), ("gpus", gpus, most["GPU"])):
        if asked > there:
            raise UserError(
                f"--study.ray.{key}: {asked:g} is not allowed; the largest of {len(machines)} machines has {there:g}"
            )
    room = {"num_cpus": settings.cpus, "num_gpus": gpus}
    if not _cells_at_a_time(machines, room):
        raise UserError(
            f"--study.ray.cpus: no machine has {settings.cpus:g} cores and {gpus:g} GPUs at once for a cell; lower "
            f"--study.ray.cpus or --study.ray.gpus"
        )
    return room


def _cells_at_a_time(machines: Sequence[Machine], room: Mapping[str, float]) -> int:
    asks = {name: asked for name, asked in (("CPU", room["num_cpus"]), ("GPU", room["num_gpus"])) if asked}
    return sum(min(int(machine.get(name, 0.0) / asked + 1e-9) for name, asked in asks.items()) for machine in machines)


def _run_all(
    ray: Any, room: dict[str, float], running: Running, stop: StopRequest, most: Callable[[], int]
) -> list[str]:
    """Runs all jobs and returns a line for each that failed. `most`: how many jobs Ray may hold now."""
    # Ray's own retries would log nothing, and would begin again a cell that was asked to stop.
    remote = ray.remote(**room, max_retries=0)(run_cell)
    places: dict[Any, Job] = {}
    beginnings = Beginnings()
    try:
        while True:
            limit = max(1, most())
            while len(places) < limit and (job := running.take()):
                beginnings.expect(job)
                try:
                    places[remote.remote(job.request(), os.getcwd())] = job
                except Interrupted:
                    raise
                except Exception as error:
                    running.broke(job, error)
            if running.over:
                return running.failed
            ended, _ = ray.wait(list(places), timeout=SECONDS_BETWEEN_LOOKS) if places else ([], [])
            beginnings.look()
            for reference in ended:
                beginnings.forget(places[reference])
                take(ray, reference, places.pop(reference), running)
            stop.check()
    except BaseException:
        # Asks the workers to save and stop, as Ctrl-C asks a single run.
        for reference in places:
            ray.cancel(reference, force=False)
        if places:
            ray.wait(list(places), num_returns=len(places), timeout=SECONDS_TO_SAVE)
        raise
