"""The command line: `python run.py --config quickstart.yaml` reads the arguments and runs what they
ask for.

Exit codes: 0 done, 1 an error of a library or of this program, 2 something the user must change
(one line says what), 130 after Ctrl-C, 143 after SIGTERM.
"""

import os
import signal
import sys
import traceback

if sys.version_info < (3, 11):  # noqa: UP036 - else an older Python would end in a traceback below
    print(
        "error: this program needs Python 3.11 to 3.13; start it with `uv run run.py`",
        file=sys.stderr,
    )
    sys.exit(2)

# Ctrl-C during the imports below, which take seconds, ends without a traceback
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from autolora.configs.printable import printable
from autolora.configs.requests import Command, Request


def main(argv: list[str]) -> int:
    """Runs one command line; returns the exit code."""
    from autolora.engine.run.faults import told

    try:
        return start(_parsed(argv))
    except Exception as error:
        line, code = told(error)
        if code == 1 and not hasattr(error, "__notes__"):  # no log.txt has it
            traceback.print_exc()
        print(f"error: {printable(line)}", file=sys.stderr)
        return code


def _parsed(argv: list[str]) -> Command:
    from autolora.configs.adapter_command import WORDS, parse_adapter_command
    from autolora.configs.parser import parse_command

    if argv and argv[0] in WORDS:
        return parse_adapter_command(argv)
    return parse_command(argv)


def start(request: Command) -> int:
    """Runs a parsed request; returns the exit code. Modules that load slowly are imported only
    here."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from autolora.configs.launch import speaks
    from autolora.engine.command import run_request
    from autolora.engine.interrupt import Interrupted, watch_signals
    from autolora.engine.terminal.console import show_log

    show_log(speaks=speaks())
    runs = isinstance(request, Request)
    try:
        with watch_signals() as stop:
            run_request(request, stop)
    except Interrupted as interrupted:
        kept = "; the same command resumes from what was saved" if runs else ""
        print(f"stopped{kept}", file=sys.stderr)
        return interrupted.code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
