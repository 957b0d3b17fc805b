"""The one console, and the one log, of the program."""

import logging

from rich.logging import RichHandler

from problems.machine.console import PlainConsole

console = PlainConsole()
log = logging.getLogger("autolora")


def show_log(*, speaks: bool = True) -> None:
    """Shows the program's log lines; with `speaks` off, as in every process but the first, only errors."""
    console.quiet = not speaks
    if not log.handlers:
        handler = RichHandler(console=console, show_path=False, show_level=False, show_time=False, markup=False)
        log.addHandler(handler)
        log.setLevel(logging.INFO if speaks else logging.ERROR)
        log.propagate = False
