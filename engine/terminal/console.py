"""The one console, and the one log, of the program."""

import logging

from problems.machine.console import PlainConsole

console = PlainConsole()
log = logging.getLogger("autolora")


class _Lines(logging.Handler):
    """Each record as one line, which only a window breaks."""

    def emit(self, record: logging.LogRecord) -> None:
        console.print(record.getMessage())


def show_log(*, speaks: bool = True) -> None:
    """Shows the program's log lines; with `speaks` off, as in every process but the first, only errors."""
    console.quiet = not speaks
    if not log.handlers:
        log.addHandler(_Lines())
        log.setLevel(logging.INFO if speaks else logging.ERROR)
        log.propagate = False
