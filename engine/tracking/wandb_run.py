"""Send the curves of a run to wandb. A failure of wandb never stops the run."""

import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

import numpy as np
from PIL.Image import Image as Picture

from autolora.configs.schema import RunConfig
from autolora.engine.run.folder import WANDB_ID, RunFolder
from autolora.engine.run.interrupt import Interrupted
from autolora.engine.tracking.login import Mode, project_of, wandb_mode
from autolora.engine.tracking.tracker import Tracker
from autolora.engine.tracking.wandb_id import Identity, identity_of

SEARCH_STEP = "search/step"
STEPS = (SEARCH_STEP, "retrain/step")
# wandb refuses longer tags and names of artifacts.
MOST_TAG, MOST_NAME = 64, 128
PATIENCE = 20
"""Seconds to wait for a server that does not answer when a run begins."""
LAST_PATIENCE = 300
"""Seconds to wait, when a run ends, for a server that does not take the rest of the curves."""
MOST_ROWS = 10_000
"""The rows of a chart's table: wandb would leave out all further ones without a word."""

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
        # With --overwrite, `folder` will be moved there.
        self._place = RunFolder.of(config).root / "wandb"
        self._sent: dict[str, float] = {}
        """Of each of STEPS, the last one that an earlier process has sent; empty unless a stage resumes."""
        mode = wandb_mode(config)
        self.alive = mode != "disabled"
        self._start(config, folder, mode, job_type=job, tags=[tag[:MOST_TAG] for tag in tags])

    @_unless_off
    def _start(self, config: RunConfig, folder: Path, mode: Mode, **options: Any) -> None:
        """Begins the wandb run; `options`: arguments of wandb.init that the configuration does not hold."""
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._wandb = wandb
        sent = identity_of(config, folder / WANDB_ID) if mode == "online" else None
        options |= {
            "project": sent.project if sent else project_of(config),
            "entity": (sent.entity if sent else config.tracking.entity) or None,  # None: wandb's own default
            "group": config.tracking.group,
            "name": config.name,
            "dir": str(folder),
            "config": config.model_dump(),
            "settings": wandb.Settings(init_timeout=PATIENCE, console="off", **_last_patience(wandb)),
        }
        # Offline, a resumed run gets a new id: runs with the same id would overwrite each other when they are synced.
        same: dict[str, Any] = {"id": sent.id, "resume": "allow"} if sent else {}
        try:
            self._run = wandb.init(mode=mode, **options, **same)
        except Exception as error:
            if mode != "online" or isinstance(error, Interrupted):
                raise
            log.warning("wandb cannot be reached, the curves are kept offline for wandb sync: %s", _first_line(error))
            # wandb remembers the id that failed and would wait for it again, so this run gets another.
            self._run = wandb.init(mode="offline", **options, id=secrets.token_hex(4))
        else:
            log.info("wandb: %s", self._run.url if mode == "online" else f"offline, the curves are in {self._place}")
            if mode == "online":  # in a sweep wandb gives the run another project and id
                Identity(self._run.entity, self._run.project, self._run.id).write(folder / WANDB_ID)
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
        chart = self._wandb.plot.line_series(**drawn, title=title, xname="step", split_table=True)
        self.log({key: chart})

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
            kept = self._place / Path(self._run.dir).parent.name  # dir: its folder `files`
            log.warning("wandb did not take the rest of the curves within %d seconds; to send them: wandb sync %s",
                        LAST_PATIENCE, kept)  # fmt: skip
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


def _last_patience(wandb: Any) -> dict[str, Any]:
    """The settings by which wandb waits LAST_PATIENCE seconds for the server when a run ends, and then raises
    TimeoutError; none for a version without them, which waits for ever."""
    known = getattr(wandb.Settings, "model_fields", {})
    settings = {"finish_timeout": float(LAST_PATIENCE), "finish_timeout_raises": True}
    return {name: value for name, value in settings.items() if name in known}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0]
