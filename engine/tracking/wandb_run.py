"""Send the curves of a run to wandb. A failure of wandb never stops the run."""

import dataclasses
import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from PIL.Image import Image as Picture

from configs.schema import RunConfig
from engine.disk.files import write_text
from engine.run.folder import WANDB_ID
from engine.run.interrupt import Interrupted
from engine.tracking.login import Mode, wandb_mode
from engine.tracking.tracker import Tracker

# wandb refuses longer tags and names of artifacts.
MOST_TAG, MOST_NAME = 64, 128
PATIENCE = 20
"""Seconds to wait for a server that does not answer."""

log = logging.getLogger("autolora")

P = ParamSpec("P")
T = TypeVar("T")


def _unless_off(method: Callable[Concatenate["Wandb", P], T]) -> Callable[Concatenate["Wandb", P], T | None]:
    """Makes `method` do nothing while wandb is off, and switch wandb off with one warning when it fails."""

    @wraps(method)
    def call(self: "Wandb", *args: P.args, **options: P.kwargs) -> T | None:
        if not self.alive:
            return None
        try:
            return method(self, *args, **options)
        except Interrupted:  # a second signal ends the run at once
            raise
        except Exception as error:
            self.alive = False
            log.warning("wandb is switched off for this run: %s", _first_line(error))
            self._let_go()
        return None

    return call


class Wandb(Tracker):
    """A wandb run, or nothing if wandb is disabled. A call that fails switches wandb off; the training continues.

    `job`, `tags`: labels by which runs can be grouped and filtered. Used in a `with` statement, it closes the wandb
    run when the body ends, as failed or stopped if the body raises. Raises UserError if wandb is to be online and
    there is no key.
    """

    _run: Any = None
    _wandb: Any = None

    def __init__(self, config: RunConfig, folder: Path, *, job: str | None = None, tags: Sequence[str] = ()) -> None:
        self._keeps_files = config.tracking.artifacts
        mode = wandb_mode(config)
        self.alive = mode != "disabled"
        self._start(config, folder, mode, job_type=job, tags=[tag[:MOST_TAG] for tag in tags])

    @_unless_off
    def _start(self, config: RunConfig, folder: Path, mode: Mode, **options: Any) -> None:
        """Begins the wandb run; `options`: arguments of wandb.init that the configuration does not hold."""
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._wandb = wandb
        options |= {
            "project": config.tracking.project,
            "entity": config.tracking.entity,
            "group": config.tracking.group,
            "name": config.name,
            "dir": str(folder),
            "config": dataclasses.asdict(config),
            "settings": wandb.Settings(init_timeout=PATIENCE, console="off", x_disable_stats=True),
        }
        # Offline, a resumed run gets a new id: runs with the same id would overwrite each other when they are synced.
        same: dict[str, Any] = {"id": _identity(folder / WANDB_ID), "resume": "allow"} if mode == "online" else {}
        try:
            self._run = wandb.init(mode=mode, **options, **same)
        except Exception as error:
            if mode != "online" or isinstance(error, Interrupted):
                raise
            log.warning("wandb cannot be reached, the curves are kept offline for wandb sync: %s", _first_line(error))
            # wandb remembers the id that failed and would wait for it again, so this run gets another.
            self._run = wandb.init(mode="offline", **options, id=secrets.token_hex(4))
        else:
            log.info("wandb: %s", self._run.url if mode == "online" else f"offline, the curves are in {folder}/wandb")
        self._run.define_metric("search/step", hidden=True)
        self._run.define_metric("search/*", step_metric="search/step")
        # wandb would draw a chart for each number of each layer and component. Hidden, they can still be queried.
        for kind in ("alpha", "contribution", "entropy", "rank", "share"):
            self._run.define_metric(f"{kind}/*", step_metric="search/step", hidden=True)

    @_unless_off
    def log(self, values: Mapping[str, Any]) -> None:
        """Sends numbers and pictures. If a key has pictures at several steps, wandb shows a slider."""
        image = self._wandb.Image
        self._run.log({key: image(value) if isinstance(value, Picture) else value for key, value in values.items()})

    @_unless_off
    def image(self, key: str, path: Path) -> None:
        self.log({key: self._wandb.Image(str(path))})

    @_unless_off
    def lines(self, key: str, steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
        names, values, title = list(curves), list(curves.values()), key.split("/", 1)[-1]
        series = self._wandb.plot.line_series
        self.log({key: series(xs=list(steps), ys=values, keys=names, title=title, xname="step")})

    @_unless_off
    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self.log({key: self._wandb.Table(columns=list(columns), data=list(rows), allow_mixed_types=True)})

    @_unless_off
    def keep(self, name: str, kind: str, path: Path) -> None:
        """Sends a file or a folder as an artifact."""
        if self._keeps_files and path.exists():
            # A folder may have a name that wandb refuses for an artifact.
            artifact = self._wandb.Artifact(re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-MOST_NAME:], type=kind)
            (artifact.add_dir if path.is_dir() else artifact.add_file)(str(path))
            self._run.log_artifact(artifact)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        # wandb itself uses 255 at Ctrl-C: the run has not failed, and may be resumed.
        failed = 255 if isinstance(error, Interrupted | KeyboardInterrupt) else 1
        self.finish(exit_code=0 if error is None else failed)

    @_unless_off
    def finish(self, summary: Mapping[str, Any] | None = None, *, exit_code: int = 0) -> None:
        """Writes the final values and closes the run; wandb shows it as finished, failed (any other `exit_code`) or
        killed (255)."""
        self._run.summary.update(dict(summary or {}))
        self._run.finish(exit_code=exit_code)
        self.alive = False

    def _let_go(self) -> None:
        """Closes the run, as far as wandb allows: the next cell of a study would otherwise get the same run."""
        try:
            if self._run is not None:
                self._run.finish(exit_code=1)
        except Interrupted:
            raise
        except Exception as error:
            log.debug("wandb: %s", _first_line(error))


def _identity(path: Path) -> str:
    """The id of the run, which is in the file `path`; if there is no such file, writes a random id to it."""
    if not path.exists():
        write_text(path, secrets.token_hex(4))
    return path.read_text(encoding="utf-8").strip()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0]
