"""Load the libraries that take seconds, after a log line that says so, and silence their own
output."""

import logging
import os
import sys
import warnings

from autolora.engine.terminal.console import console
from autolora.problems.machine.hub import settle_hub_access

log = logging.getLogger("autolora")


def load_libraries() -> None:
    """Loads torch, transformers and datasets after a log line; from then on only their errors are
    shown.

    It checks whether the hub answers before it imports the hub's libraries, as these read only at
    import whether they must work offline.
    """
    if not {"torch", "transformers", "datasets"} <= sys.modules.keys():
        log.info("loading torch, transformers and datasets, which takes some seconds")
        settle_hub_access()
    if not console.is_interactive:
        # In a file the libraries' own bars would be one endless line. tqdm reads this when it is
        # imported.
        os.environ.setdefault("TQDM_DISABLE", "1")
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
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings(
        "ignore", module=r"(transformers|torch|peft|accelerate|datasets|pyarrow)\b"
    )
