"""The one console, and the one log, of the program."""

import logging
import warnings

from rich.logging import RichHandler

from problems.machine.console import PlainConsole

console = PlainConsole()
log = logging.getLogger("autolora")


def quiet_libraries(*, speaks: bool = True) -> None:
    """Shows the program's own log lines, and of its libraries only errors; with `speaks` off, as in every process but
    the first, of the program too only errors."""
    import datasets
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    datasets.utils.logging.set_verbosity_error()
    datasets.disable_progress_bars()
    warnings.filterwarnings("ignore", module=r"(transformers|torch|peft|accelerate|datasets)\b")
    console.quiet = not speaks
    if not log.handlers:
        handler = RichHandler(console=console, show_path=False, show_level=False, show_time=False, markup=False)
        log.addHandler(handler)
        log.setLevel(logging.INFO if speaks else logging.ERROR)
        log.propagate = False
