"""Send the curves of a run to wandb. A failure of wandb never stops the run."""

import logging
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, NamedTuple, ParamSpec

import numpy as np
from PIL.Image import Image as Picture

from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.run.folder import WANDB_ID, RunFolder
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.tracking.login import Mode, wandb_mode, wandb_settings
from autolora.engine.tracking.tracker import Tracker

SEARCH_STEP = "search/step"
STEPS = (SEARCH_STEP, "retrain/step")
# wandb refuses longer tags and names of artifacts.
MOST_TAG, MOST_NAME = 64, 128
PATIENCE, LAST_PATIENCE = 20.0, 300.0
"""Seconds to wait for a server that does not answer when a run begins, and for one that does not take the rest of the
curves when it ends."""
MOST_ROWS = 10_000
"""The rows of a chart's table: wandb would leave out all further ones without a word."""

log = logging.getLogger("autolora")

P = ParamSpec("P")


class Sent(NamedTuple):
    """Which run on wandb's server the curves of a folder go to, as its file wandb_id says; `entity` may be ""."""

    entity: str
    project: str
    id: str


def sent_to(folder: Path) -> Sent | None:
    """What the file wandb_id in a folder holds; None without the file."""
    path = folder / WANDB_ID
    return Sent(*path.read_text(encoding="utf-8").strip().split("/")) if path.exists() else None


def _unless_off(method: Callable[Concatenate["Wandb", P], None]) -> Callable[Concatenate["Wandb", P], None]:
    """Makes `method` do nothing while wandb is off, and switch wandb off with one warning when it fails."""

    @wraps(method)
    def call(self: "Wandb", *args: P.args, **options: P.kwargs) -> None:
        if not self.alive:
            return
        try:
            method(self, *args, **options)
        except Interrupted:  # a second signal ends the run at once
            raise
        except Exception as error:
            self.alive = False
            log.warning("wandb is switched off for this run: %s", _first_line(error))
            self._let_go()

    return call


class Wandb(Tracker):
    """A wandb run, or nothing if wandb is disabled. A call that fails switches wandb off; the training continues.

    `job`, `tags`: labels by which runs can be grouped and filtered. Used in a `with` statement, it closes the wandb
    run when the body ends, as failed or stopped if the body raises. Raises UserError if wandb is to be online and
    there is no key.
    """

    _run: Any = None
    _wandb: Any = None

    def __init__(self, config: RunConfig, folder: Path, *, job: str, tags: Sequence[str]) -> None:
        self._keeps_files = config.tracking.artifacts
        # With --overwrite, `folder` will be moved there.
        self._place = RunFolder.of(config).root / "wandb"
        self._sent: dict[str, float] = {}
        """Of each of STEPS, the last one that an earlier process has sent; empty unless a stage resumes."""
        mode = wandb_mode(config)
        self.alive = mode != "disabled"
        self._start(config, folder, mode, job_type=job, tags=[tag[:MOST_TAG] for tag in tags])

    @_unless_off
    def _start(self, config: RunConfig, folder: Path, mode: Mode, **labels: Any) -> None:
        """Begins the wandb run, or goes on with the one that the folder's file names."""
        import wandb

        self._wandb = wandb
        known = (sent_to(folder) if mode == "online" else None) or Sent("", "", secrets.token_hex(4))
        options = labels | {
            "project": config.tracking.project or known.project or wandb_settings().project or "autolora",
            "entity": config.tracking.entity or known.entity or None,
            "group": config.tracking.group,
            "name": config.name,
            "dir": str(folder),
            "config": config.model_dump(),
            "settings": wandb.Settings(
                init_timeout=PATIENCE, finish_timeout=LAST_PATIENCE, finish_timeout_raises=True, console="off"
            ),
        }
        if mode == "online":
            try:
                self._run = wandb.init(mode=mode, id=known.id, resume="allow", **options)
                # In a sweep wandb gives the run another project and id.
                write_text(folder / WANDB_ID, "/".join((self._run.entity, self._run.project, self._run.id)))
                log.info("wandb: %s", self._run.url)
            except Interrupted:
                raise
            except Exception as error:
                log.warning("wandb cannot be reached, the curves are kept for wandb sync: %s", _first_line(error))
        if self._run is None:
            # A new id: wandb would wait again for one that failed, and in syncing overwrite one run by another.
            self._run = wandb.init(mode="offline", id=secrets.token_hex(4), **options)
            log.info("wandb: offline, the curves are in %s", self._place)
        for step in STEPS:
            self._run.define_metric(step, hidden=True)
            self._run.define_metric(f"{step.removesuffix('step')}*", step_metric=step)
        # wandb would draw a chart for each number of each layer and component. Hidden, they can still be queried. In
        # the summary there would be hundreds of columns, of which wandb's table of runs shows 500.
        for kind in ("alpha", "contribution", "entropy", "rank", "answer/rank"):
            self._run.define_metric(f"{kind}/*", step_metric=SEARCH_STEP, hidden=True, summary="none")
        self._run.define_metric("share/*", step_metric=SEARCH_STEP, hidden=True)

    @_unless_off
    def log(self, values: Mapping[str, Any]) -> None:
        """Sends numbers and pictures. If a key has pictures at several steps, wandb shows a slider.

        Leaves out a step that the wandb run already has: a stage that was killed takes again the steps since its last
        checkpoint."""
        if any(step in values and values[step] <= self._sent.get(step, -1) for step in STEPS):
            return
        image = self._wandb.Image
        self._run.log({key: image(value) if isinstance(value, Picture) else value for key, value in values.items()})

    @_unless_off
    def resumes(self) -> None:
        known = {step: self._run.summary.get(step) for step in STEPS}
        self._sent = {step: last for step, last in known.items() if isinstance(last, int | float)}

    @_unless_off
    def image(self, key: str, path: Path) -> None:
        self.log({key: self._wandb.Image(str(path))})

    @_unless_off
    def lines(self, key: str, steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
        count = min(len(steps), max(2, MOST_ROWS // len(curves)))
        chosen = np.linspace(0, len(steps) - 1, count).round().astype(int)
        drawn = {
            "xs": [steps[index] for index in chosen],
            "ys": [[curve[index] for index in chosen] for curve in curves.values()],
            "keys": list(curves),
        }
        title = key.split("/", 1)[-1].replace("_", " ")
        # split_table: the table behind the chart goes to a section of its own.
        self.log({key: self._wandb.plot.line_series(**drawn, title=title, xname="step", split_table=True)})

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
        try:
            self._run.finish(exit_code=exit_code)
        except TimeoutError:
            log.warning("wandb did not take the rest of the curves; to send them: wandb sync %s/*", self._place)
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


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0]
