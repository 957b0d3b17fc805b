"""The command line: `python run.py --config quickstart.yaml` reads the arguments and runs what they ask for.

Exit codes: 0 done, 2 something the user must change (one line says what), 130 after Ctrl-C, 143 after SIGTERM.
"""

import os
import sys

if sys.version_info < (3, 11):  # noqa: UP036 - else an older Python would end in a traceback below
    print("error: this program needs Python 3.11 to 3.13; start it with `uv run run.py`", file=sys.stderr)
    sys.exit(2)

from autolora.engine.run.interrupt import leave_at_signals

if __name__ == "__main__":  # before all other imports, which take seconds
    leave_at_signals()

from importlib.util import find_spec

from autolora.configs.plain import plain
from autolora.configs.requests import Command, Request

BETTY = "pip install --no-deps --ignore-requires-python betty-ml==0.2.1"
OURS = ("autolora",)


def main(argv: list[str]) -> int:
    """Runs one command line; returns the exit code."""
    if os.name == "nt":  # the program needs the file locks, folder exchanges and signals of POSIX
        return fail("this program needs Linux or macOS; on Windows run it in WSL")
    from autolora.configs.errors import UserError

    try:
        return start(_parsed(argv))
    except UserError as error:
        return fail(str(error))
    except PermissionError as error:  # during a run, `autolora.engine.run.faults` also says what was saved
        if error.filename is None:
            raise
        return fail(f"{os.fspath(error.filename)}: this user may not read or write it (permission denied)")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in OURS or not _is_missing(error.name):
            raise
        if error.name.partition(".")[0] == "betty":
            return fail(f"a search needs Betty; run: {BETTY}   (or start with `uv run run.py`)")
        return fail(f"the Python package {error.name} is not installed here; start with `uv run run.py`, or see "
                    f"README, \"Without uv\"")  # fmt: skip


def _is_missing(package: str) -> bool:
    """Whether a package is not installed at all; else the error is no fault of the installation that we can name."""
    try:
        return find_spec(package.partition(".")[0]) is None
    except ValueError:  # the package was put out of reach, as tests do
        return True


def _parsed(argv: list[str]) -> Command:
    from autolora.configs.adapter_command import WORDS, parse_adapter_command
    from autolora.configs.parser import parse_command

    if argv and argv[0] in WORDS:
        return parse_adapter_command(argv)
    return parse_command(argv)


def start(request: Command) -> int:
    """Runs a parsed request; returns the exit code. Modules that load slowly are imported only here."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from autolora.configs.launch import speaks
    from autolora.engine.command import run_request
    from autolora.engine.run.interrupt import Interrupted, watch_signals
    from autolora.engine.terminal.console import show_log

    show_log(speaks=speaks())
    runs = isinstance(request, Request)
    try:
        with watch_signals(at_once=not runs) as stop:
            run_request(request, stop)
    except Interrupted as interrupted:
        kept = "; the same command resumes from what was saved" if runs else ""
        print(f"stopped{kept}", file=sys.stderr)
        return interrupted.code
    return 0


def fail(line: str) -> int:
    """Prints one error line for the user; returns exit code 2."""
    print(f"error: {plain(line)}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
