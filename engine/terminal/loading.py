"""Load the libraries that take seconds, after a log line that says so, and silence their own output."""

import logging
import os
import sys
import warnings

from autolora.configs.schema import RunConfig
from autolora.engine.terminal.console import console
from autolora.problems.machine.hub import settle_hub_access
from autolora.problems.machine.processes import ALONE, Processes

log = logging.getLogger("autolora")


def load_libraries(config: RunConfig | None = None, processes: Processes = ALONE) -> None:
    """Loads torch, transformers and datasets after a log line; from then on only their errors are shown.

    It checks whether the hub answers before it imports the hub's libraries, as these read only at import whether they
    must work offline. Raises UserError if the device of `config` does not exist on this machine; `config` None: the
    device is not checked here, as each training of a study or a verdict checks its own.
    """
    new = not {"torch", "transformers", "datasets"} <= sys.modules.keys()
    if new:
        log.info("loading torch, transformers and datasets, which takes some seconds")
    if not console.is_interactive:
        # In a file the libraries' own bars would be one endless line. tqdm reads this when it is imported.
        os.environ.setdefault("TQDM_DISABLE", "1")
    if config is not None:
        from autolora.problems.machine.compute import choose_compute  # loads only torch, which knows the devices

        choose_compute(config, processes.local)
    if new:
        settle_hub_access()
    quiet_libraries()


def quiet_libraries() -> None:
    """Silences the libraries except for errors and, in a terminal, progress bars of downloads."""
    import datasets
    from huggingface_hub.utils import enable_progress_bars
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    if console.is_interactive:  # the call above has switched off the bars of downloads, too
        enable_progress_bars()
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module=r"(transformers|torch|peft|accelerate|datasets)\b")
