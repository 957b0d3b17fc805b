"""Send the curves, pictures and tables of a run to wandb. A failure of wandb never stops the
run."""

import logging
import math
import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from PIL.Image import Image as Picture

from autolora.configs.errors import UserError
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.interrupt import Interrupted
from autolora.engine.store.folder import WANDB_ID

SEARCH_STEP = "search/step"
STEPS = (SEARCH_STEP, "retrain/step")
PATIENCE = 20.0
"""Seconds to wait for a server that does not answer when a run begins."""
LAST_PATIENCE = 300.0
"""Seconds to wait for a server that does not take the rest of the curves when a run ends."""
MOST_ROWS = 10_000
"""The rows of a chart's table: wandb would leave out all further ones without a word."""

log = logging.getLogger("autolora")


class Sent(NamedTuple):
    """Which run on wandb's server the curves of a folder go to, as its file wandb_id says; `entity`
    may be ""."""

    entity: str
    project: str
    id: str


def sent_to(folder: Path) -> Sent | None:
    """What the file wandb_id in a folder holds; None without the file."""
    path = folder / WANDB_ID
    return Sent(*path.read_text(encoding="utf-8").strip().split("/")) if path.exists() else None


class Tracker:
    """A wandb run, or nothing; `start` gives it when it is first needed, so that a run that is
    refused leaves none. A call that fails switches wandb off with one warning; the training
    continues.

    Used in a `with` statement, it closes the wandb run when the body ends, as failed or stopped if
    the body raises.
    """

    def __init__(self, start: Callable[[], Any] = lambda: None) -> None:
        self._start = start
        self._sent: dict[str, float] = {}
        """Of each of STEPS, the last one that an earlier process has sent."""

    @cached_property
    def _run(self) -> Any:
        return self._start()

    @property
    def alive(self) -> bool:
        """Whether anything is sent."""
        return self._run is not None

    def _send(self, call: Callable[[Any, Any], Any]) -> None:
        """Calls a function of the wandb run and of the module wandb."""
        if self._run is None:
            return
        import wandb

        try:
            call(self._run, wandb)
        except Exception as error:
            self._run = None
            log.warning(
                "wandb is switched off for this run (wandb sync sends what is kept): %s", error
            )

    def log(self, values: Mapping[str, Any]) -> None:
        """Sends numbers and pictures (PIL images) that belong to one step. Leaves out a step
        that the wandb run has: a stage that was killed takes again the steps since its last
        checkpoint."""

        def send(run: Any, wandb: Any) -> None:
            if all(values.get(step, math.inf) > last for step, last in self._sent.items()):
                run.log(
                    {
                        k: wandb.Image(value) if isinstance(value, Picture) else value
                        for k, value in values.items()
                    }
                )

        self._send(send)

    def begin(self) -> None:
        """Says that a stage is about to train. One that resumes will send again what it sent after
        its checkpoint."""
        self._send(
            lambda run, _: self._sent.update({step: run.summary.get(step) or -1 for step in STEPS})
        )

    def image(self, key: str, path: Path) -> None:
        """Sends a picture from a file."""
        self._send(lambda run, wandb: run.log({key: wandb.Image(str(path))}))

    def lines(self, key: str, steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
        """Sends one chart with a line for each of `curves`."""
        every = -(-len(steps) * len(curves) // MOST_ROWS)
        ys = [curve[::-every][::-1] for curve in curves.values()]  # with the last point
        title = key.split("/", 1)[-1].replace("_", " ")
        # split_table: the table behind the chart goes to a section of its own.
        self._send(
            lambda run, wandb: run.log(
                {
                    key: wandb.plot.line_series(
                        steps[::-every][::-1],
                        ys,
                        keys=list(curves),
                        title=title,
                        xname="step",
                        split_table=True,
                    )
                }
            )
        )

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Sends a table."""
        made = {"columns": list(columns), "data": list(rows), "allow_mixed_types": True}
        self._send(lambda run, wandb: run.log({key: wandb.Table(**made)}))

    def finish(self, summary: Mapping[str, Any] | None = None, *, exit_code: int = 0) -> None:
        """Sends the final values and closes the run; nothing is sent afterwards. wandb shows it as
        finished, failed (any other `exit_code`) or killed (255)."""
        if summary or "_run" in vars(self):
            self._send(lambda run, _: run.summary.update(dict(summary or {})))
            self._send(lambda run, _: run.finish(exit_code=exit_code))
        self._run = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the run as finished, failed or stopped, depending on `error`."""
        # wandb itself uses 255 at Ctrl-C: the run has not failed, and may be resumed.
        failed = 255 if isinstance(error, Interrupted | KeyboardInterrupt) else 1
        self.finish(exit_code=0 if error is None else failed)


def wandb_settings() -> Any:
    """wandb's own settings: those of the environment and of its files."""
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb

    return wandb.setup().settings


def wandb_mode(config: RunConfig) -> Literal["online", "offline", "disabled"]:
    """Whether wandb is online, offline or disabled in this run; without a key it would ask for one
    and wait.

    With --tracking.wandb auto, wandb's settings decide (WANDB_MODE, `wandb offline`); if they do
    not, wandb is online if it finds an API key. Raises UserError if online is asked for and there
    is no key.
    """
    wanted = config.tracking.wandb
    if wanted in ("disabled", "offline"):
        return wanted
    settings = wandb_settings()
    if wanted == "auto" and (settings._noop or settings._offline):
        return "disabled" if settings._noop else "offline"
    import wandb

    try:
        known = wandb.login(prompt=False, verify=False)
    except wandb.errors.AuthenticationError:  # a malformed key
        known = False
    if not known and wanted == "online":
        raise UserError(
            "--tracking.wandb: online needs an API key; run `wandb login`, or set WANDB_API_KEY"
        )
    return "online" if known else "offline"


def tracker_of(config: RunConfig, folder: Path) -> Tracker:
    """The tracker of a run in `folder`, which goes on with the wandb run that the folder's file
    names."""
    return Tracker(partial(_begin, config, folder))


def _begin(config: RunConfig, folder: Path) -> Any:
    """A run of wandb; None if it is disabled, or cannot begin one."""
    mode = wandb_mode(config)
    if mode == "disabled":
        return None
    import wandb

    known = (sent_to(folder) if mode == "online" else None) or Sent("", "", secrets.token_hex(4))
    options: dict[str, Any] = {
        "project": config.tracking.project
        or known.project
        or wandb_settings().project
        or "autolora",
        "entity": config.tracking.entity or known.entity or None,
        "group": config.tracking.group,
        "name": config.name,
        "dir": str(folder),
        "config": config.model_dump(),
        "settings": wandb.Settings(
            init_timeout=PATIENCE,
            finish_timeout=LAST_PATIENCE,
            finish_timeout_raises=True,
            console="off",
            reinit="finish_previous",
        ),
    }
    run = (
        _begun(mode="online", id=known.id, resume="allow", **options) if mode == "online" else None
    )
    if run is not None:
        # in a sweep, wandb gives others
        write_text(folder / WANDB_ID, "/".join((run.entity, run.project, run.id)))
        log.info("wandb: %s", run.url)
    else:
        # A new id: wandb would wait again for one that failed, and in syncing overwrite one run by
        # another.
        run = _begun(mode="offline", id=secrets.token_hex(4), **options)
        log.info("wandb: offline, the curves are in %s", folder / "wandb")
    return run


def _begun(**options: Any) -> Any:
    """A run of wandb; None, after a warning, if wandb cannot begin one."""
    import wandb

    try:
        run = wandb.init(**options)
        _define(run)
    except Exception as error:
        log.warning("wandb cannot be reached, or fails: %s", error)
        return None
    return run


def _define(run: Any) -> None:
    """Says over which step wandb draws what."""
    for step in STEPS:
        run.define_metric(step, hidden=True)
        run.define_metric(f"{step.removesuffix('step')}*", step_metric=step)
    # wandb would draw a chart for each number of each layer and component. Hidden, they can still
    # be queried. In the summary there would be hundreds of columns, of which wandb's table of runs
    # shows 500.
    for kind in ("alpha", "contribution", "entropy", "rank"):
        run.define_metric(f"{kind}/*", step_metric=SEARCH_STEP, hidden=True, summary="none")
