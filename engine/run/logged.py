"""log.txt: what the program says while it works in a run's folder, each line with its time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import MemoryHandler

from autolora.configs.errors import UserError
from autolora.configs.printable import printable
from autolora.engine.disk.files import stamp
from autolora.engine.interrupt import Interrupted
from autolora.engine.store.folder import RunFolder

log = logging.getLogger("autolora")


class _Timed(logging.Formatter):
    """A line with its local time, to the second, and its level, if that is not INFO."""

    default_msec_format = None

    def format(self, record: logging.LogRecord) -> str:
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        line = printable(super().format(record), keep="\n")
        return f"{self.formatTime(record)} {level}{line}"


@contextmanager
def logged(folder: RunFolder) -> Iterator[None]:
    """Appends what the program says inside `with` to log.txt, and at last how the run ended: after
    an error that was not foreseen with its traceback, of which the error gets a note."""
    file = logging.FileHandler(folder.log, encoding="utf-8", delay=True)
    file.setFormatter(_Timed())
    # Holds records back until the run begins to train, as a run that is refused leaves nothing
    # behind.
    handler = MemoryHandler(0, target=file, flushOnClose=False)
    before = stamp(folder.config)

    def begun(*_: object) -> bool:
        return stamp(folder.config) != before

    handler.shouldFlush = begun  # type: ignore
    log.addHandler(handler)
    level = logging.INFO
    words = "finished"
    cause = None
    try:
        yield
    except Interrupted:
        words = "stopped"
        raise
    except UserError as error:
        level = logging.ERROR
        words = str(error)
        cause = error.__cause__
        raise
    except BaseException as error:
        level = logging.ERROR
        words = "the run failed"
        cause = error
        if begun():
            error.add_note(f"the traceback is in {folder.log}")
        raise
    finally:
        trace = None if cause is None else (type(cause), cause, cause.__traceback__)
        handler.handle(log.makeRecord(log.name, level, __file__, 0, words, (), trace))
        log.removeHandler(handler)
        handler.close()
        file.close()
