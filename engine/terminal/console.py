"""The one console, and the one log, of the program."""

import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from autolora.configs.plain import plain


def _can_redraw() -> bool:
    """Whether standard output is a terminal that can draw a bar again and again.

    FORCE_COLOR, which many build servers set, asks for colours in a file, not for a bar there.
    """
    return sys.stdout is not None and sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


# Names are shown as they are: `[bold]` and `:smile:` in them are text. No line is broken: broken after 80 letters in a
# file, it could not be searched for.
console = Console(markup=False, emoji=False, highlight=False, soft_wrap=True, force_interactive=_can_redraw())
log = logging.getLogger("autolora")
inputs = logging.getLogger("autolora.inputs")
"""What `problems/` says about the rows and the model that it was given."""


class _Lines(logging.Handler):
    """Prints each log record as one line, and below it the traceback of the record's exception, if it has one.

    Rows of data are logged, so characters that would control the terminal are escaped."""

    def emit(self, record: logging.LogRecord) -> None:
        warning = "warning: " if record.levelno == logging.WARNING else ""
        console.print(plain(warning + self.format(record), keep="\n"))


def show_log(*, speaks: bool = True) -> None:
    """Shows the program's log lines; with `speaks` off (every process but the first) this process prints nothing."""
    console.quiet = not speaks
    if not log.handlers:
        log.addHandler(_Lines())
        log.setLevel(logging.INFO)
        log.propagate = False


@contextmanager
def heard() -> Iterator[None]:
    """For a script that calls this program: inside `with`, log lines are shown and the libraries' warnings are not.

    The log lines go to the script's log handlers, or to the console if it has none.
    """
    own = [] if log.hasHandlers() else [_Lines()]
    level = log.level
    for handler in own:
        log.addHandler(handler)
    if level == logging.NOTSET:
        log.setLevel(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"(transformers|torch|peft|accelerate|datasets)\b")
            yield
    finally:
        log.setLevel(level)
        for handler in own:
            log.removeHandler(handler)


@contextmanager
def told_once() -> Iterator[None]:
    """Inside `with`, a line about the rows or the model is shown once, by the first of several runs that share them.

    Other lines with a field `once` in their `extra` are shown once for each value of it: facts that a training tells,
    and that are the same for the next. Each run's log.txt has all of them: only the handlers of now leave the repeated
    lines out.
    """
    filters = {handler: _New() for handler in log.handlers}
    for handler, new in filters.items():
        handler.addFilter(new)
    try:
        yield
    finally:
        for handler, new in filters.items():
            handler.removeFilter(new)


class _New(logging.Filter):
    """Lets a line of the logger `inputs`, and one with a field `once`, pass once, and every other line always."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[object] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        fact = getattr(record, "once", record.getMessage() if record.name == inputs.name else None)
        if fact is None or fact not in self._told:
            self._told.add(fact)
            return True
        return False
