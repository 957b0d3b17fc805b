"""The one console, and the one log, of the program."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from autolora.configs.printable import printable


class _Console(Console):
    """A console whose reader may go away: a run goes on without it, as its results are files."""

    def on_broken_pipe(self) -> None:
        """rich itself would end the program."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# Names are shown as they are: `[bold]` and `:smile:` in them are text. No line is broken: broken
# after 80 letters in a file, it could not be searched for.
console = _Console(markup=False, emoji=False, highlight=False, soft_wrap=True)
log = logging.getLogger("autolora")


class _Lines(logging.Handler):
    """Prints each log record as one line. What `problems/` says about the rows and the model is
    printed once, as the cells of a study share them; each run's log.txt has it.

    Rows of data are logged, so characters that would control the terminal are escaped."""

    def __init__(self) -> None:
        super().__init__()
        self._told = set[str]()

    def emit(self, record: logging.LogRecord) -> None:
        warning = "warning: " if record.levelno == logging.WARNING else ""
        line = printable(warning + self.format(record), keep="\n")
        if line not in self._told:
            console.print(line)
        if record.name == "autolora.inputs":
            self._told.add(line)


_LINES = _Lines()


def show_log(*, speaks: bool = True) -> None:
    """Shows the program's log lines; with `speaks` off (every process but the first) this process
    prints nothing."""
    console.quiet = not speaks
    if not log.handlers:
        log.addHandler(_LINES)
        log.setLevel(logging.INFO)
        log.propagate = False
        logging.raiseExceptions = False  # on a full disk the run itself says so, not its log.txt


@contextmanager
def heard() -> Iterator[None]:
    """For a script that calls this program: inside `with`, log lines are shown and the libraries'
    warnings are not.

    The log lines go to the script's log handlers, or to the console if it has none.
    """
    level = log.level
    silent = not log.hasHandlers()
    if silent:
        log.addHandler(_LINES)
    if level == logging.NOTSET:
        log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", module=r"(transformers|torch|peft|accelerate|datasets|pyarrow)\b"
            )
            yield
    finally:
        log.setLevel(level)
        if silent:
            log.removeHandler(_LINES)
