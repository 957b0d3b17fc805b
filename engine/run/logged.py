"""log.txt: what the program says while it works in a run's folder, each line with its time."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from autolora.configs.errors import UserError
from autolora.configs.plain import plain
from autolora.engine.disk.files import stamp
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted

log = logging.getLogger("autolora")

_WARNING = re.compile(r"\S+ \S+ warning: (.+)")


class _Timed(logging.Formatter):
    """A line with its local time, to the second, and its level, if that is not INFO."""

    default_msec_format = None

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        line = plain(super().format(record), keep="\n")
        return f"{self.formatTime(record)} {level}{line}"


class _RunLog(logging.FileHandler):
    """Appends log records to log.txt.

    Until the run begins to train it holds them back, as a run that is refused leaves nothing behind.
    """

    def __init__(self, folder: RunFolder) -> None:
        super().__init__(folder.log, encoding="utf-8", delay=True)
        self.setFormatter(_Timed())
        self._config, self._before = folder.config, stamp(folder.config)
        self._held: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Writes the record, and before it those that were held back."""
        self._held.append(record)
        if self.stream is not None or stamp(self._config) != self._before:
            held, self._held = self._held, []
            for one in held:
                super().emit(one)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Does nothing: if the disk is full, the run says so when it saves its results."""


@contextmanager
def logged(folder: RunFolder) -> Iterator[None]:
    """Appends what the program says inside `with` to log.txt, and at last how the run ended."""
    handler = _RunLog(folder)
    log.addHandler(handler)
    try:
        yield
        handler.handle(_line(logging.INFO, "finished"))
    except BaseException as error:
        handler.handle(_last_words(error))
        raise
    finally:
        log.removeHandler(handler)
        handler.close()


def _last_words(error: BaseException) -> logging.LogRecord:
    """How a run ended that did not finish; of an unexpected error with its traceback."""
    if isinstance(error, Interrupted):
        return _line(logging.INFO, "stopped")
    if isinstance(error, UserError):
        return _line(logging.ERROR, str(error))
    return _line(logging.ERROR, "the run failed", error)


def _line(level: int, words: str, error: BaseException | None = None) -> logging.LogRecord:
    trace = None if error is None else (type(error), error, error.__traceback__)
    return log.makeRecord(log.name, level, __file__, 0, words, (), trace)


def warnings_in(folder: RunFolder) -> list[str]:
    """What the program warned of, from log.txt, in order; a warning that was repeated (by a resumed run) once."""
    with suppress(OSError):
        lines = folder.log.read_text(encoding="utf-8", errors="replace").splitlines()
        return list(dict.fromkeys(found[1] for line in lines if (found := _WARNING.fullmatch(line))))
    return []
