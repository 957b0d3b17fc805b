"""The libraries that take seconds to load: a line says so before, and they say nothing of their own after."""

import logging
import os
import sys
import warnings

from configs.schema import RunConfig
from engine.terminal.console import console
from problems.machine.hub import settle_hub_access
from problems.machine.processes import ALONE, Processes

log = logging.getLogger("autolora")


def load_libraries(config: RunConfig | None = None, processes: Processes = ALONE) -> None:
    """Loads torch, transformers and datasets, after a line that says so; of them only errors are shown from now on.

    Asks in between whether the model hub answers, as its libraries read that when they are imported. Raises UserError
    when the device that `config` asks for is not there; None: others compute, perhaps on another machine.
    """
    new = not {"torch", "transformers", "datasets"} <= sys.modules.keys()
    if new:
        log.info("loading torch, transformers and datasets, which takes some seconds")
    if not console.is_terminal:
        # Bars that libraries draw for themselves: in a file they are one endless line. Read when tqdm is imported.
        os.environ.setdefault("TQDM_DISABLE", "1")
    if config is not None:
        from problems.machine.compute import choose_compute  # torch alone, which can tell whether there is a GPU

        choose_compute(config, processes.local)
    if new:
        settle_hub_access()
    quiet_libraries()


def quiet_libraries() -> None:
    """Shows of the libraries only errors, and in a terminal the progress of what they download."""
    import datasets
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if console.is_terminal:  # transformers has switched off the bars of downloads, too
        enable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module=r"(transformers|torch|peft|accelerate|datasets)\b")
