"""One command's work in a run's folder: its store, its world, its stages, and the report."""

from collections.abc import Sequence

from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import read_json
from autolora.engine.interrupt import StopRequest
from autolora.engine.recipe import run_recipe
from autolora.engine.report.stage import write_report
from autolora.engine.run.program import commit
from autolora.engine.run.resources import forget_peak
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.manifest import Stage
from autolora.engine.store.store import Store
from autolora.engine.terminal.bar import Bar
from autolora.engine.tracking import Tracker, tracker_of
from autolora.engine.world import World
from autolora.problems.machine.compute import choose_compute
from autolora.problems.machine.processes import ALONE, Processes


def run_in(
    config: RunConfig,
    folder: RunFolder,
    stages: Sequence[Stage],
    stop: StopRequest,
    processes: Processes,
    *,
    draw: bool,
) -> None:
    """Runs those of these stages that are not done, and draws the report. Raises as `run_recipe`
    does."""
    with tracker_of(config, folder.root) if processes.first else Tracker() as tracker:
        store = open_store(config, folder, stages, stop, processes, tracker)
        forget_peak(store.world.compute)
        run_recipe(config, store)
        if processes.first:
            folder.clear_leftovers()
            pictures = write_report(config, folder) if draw else {}
            for name, path in pictures.items():
                tracker.image(f"figures/{name}", path)
        tracker.finish(read_json(folder.metrics))


def open_store(
    config: RunConfig,
    folder: RunFolder,
    stages: Sequence[Stage],
    stop: StopRequest,
    processes: Processes = ALONE,
    tracker: Tracker | None = None,
) -> Store:
    """The results of these stages in a folder, as a command on this machine makes them."""
    compute = choose_compute(config.device, config.precision, processes.local)
    world = World(compute, processes, Bar, tracker or Tracker(), stop=stop)
    made = {"commit": commit(), "device": compute.device.type, "bf16": compute.bf16}
    return Store(config, folder, stages, world, made)
