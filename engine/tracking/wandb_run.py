"""wandb as a tracker that can fail without harm."""

from __future__ import annotations

import dataclasses
import logging
import os
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from PIL.Image import Image as Picture

from configs.schema import RunConfig
from engine.disk.files import write_text
from engine.run.folder import WANDB_ID
from engine.run.interrupt import Interrupted
from engine.run.opening import Asked
from engine.tracking.login import Mode, wandb_mode
from engine.tracking.tracker import Tracker

# wandb refuses longer tags and names of artifacts.
MOST_TAG, MOST_NAME = 64, 128

log = logging.getLogger("autolora")


def refuse_online_without_key(asked: Asked) -> None:
    """Refuses a run whose curves are to go online when there is no API key, before anything is trained."""
    if asked.stage != "report":
        wandb_mode(asked.config)


class Wandb(Tracker):
    """A wandb run, or nothing. A call that fails switches it off with one warning; the training goes on.

    `job` and `tags` are what runs can be grouped and filtered by. As a context it ends the run however its body ends,
    failed or stopped where that raises. Raises UserError where it is to be online and there is no key.
    """

    _run: Any = None
    _wandb: Any = None

    def __init__(
        self,
        config: RunConfig,
        folder: Path,
        *,
        job: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        self._keeps_files = config.tracking.artifacts
        mode = wandb_mode(config)
        self.alive = mode != "disabled"
        self._guard(lambda: self._start(config, folder, mode, job, tags))

    def _start(
        self,
        config: RunConfig,
        folder: Path,
        mode: Mode,
        job: str | None,
        tags: Sequence[str],
    ) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._wandb = wandb
        options: dict[str, Any] = {
            "project": config.tracking.project,
            "entity": config.tracking.entity,
            "group": config.tracking.group,
            "name": config.name,
            "job_type": job,
            "tags": [tag[:MOST_TAG] for tag in tags],
            "dir": str(folder),
            "config": dataclasses.asdict(config),
            "settings": wandb.Settings(init_timeout=20, console="off", x_disable_stats=True),
        }
        # Offline runs of one name would replace each other when they are synced.
        same: dict[str, Any] = {"id": _identity(folder / WANDB_ID), "resume": "allow"} if mode == "online" else {}
        try:
            self._run = wandb.init(mode=mode, **options, **same)
        except Exception as error:
            if mode != "online" or isinstance(error, Interrupted):
                raise
            log.warning("wandb cannot be reached, the curves are kept offline for wandb sync: %s", _first_line(error))
            # wandb remembers the name that failed, and holds it.
            self._run = wandb.init(mode="offline", **options, id=_new_identity())
        self._run.define_metric("search/step", hidden=True)
        self._run.define_metric("search/*", step_metric="search/step")
        # Numbers of each layer and component: kept for queries and native plots, hidden lest each make a chart.
        for kind in ("alpha", "contribution", "entropy", "rank"):
            self._run.define_metric(f"{kind}/*", step_metric="search/step", hidden=True)

    def log(self, values: Mapping[str, Any]) -> None:
        """Numbers and pictures of one moment; over the pictures that one key has at several steps, wandb shows a
        slider."""

        def send() -> None:
            image = self._wandb.Image
            self._run.log({key: image(x) if isinstance(x, Picture) else x for key, x in values.items()})

        self._guard(send)

    def image(self, key: str, path: Path) -> None:
        self._guard(lambda: self._run.log({key: self._wandb.Image(str(path))}))

    def lines(self, key: str, steps: Sequence[int], curves: Mapping[str, Sequence[float]]) -> None:
        self._guard(
            lambda: self._run.log(
                {
                    key: self._wandb.plot.line_series(
                        xs=list(steps),
                        ys=list(curves.values()),
                        keys=list(curves),
                        title=key.split("/", 1)[-1],
                        xname="step",
                    )
                }
            )
        )

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        self._guard(
            lambda: self._run.log(
                {key: self._wandb.Table(columns=list(columns), data=list(rows), allow_mixed_types=True)}
            )
        )

    def keep(self, name: str, kind: str, path: Path) -> None:
        """As an artifact."""

        def send() -> None:
            # A folder may be called what wandb takes for no name.
            artifact = self._wandb.Artifact(re.sub(r"[^A-Za-z0-9._-]+", "-", name)[-MOST_NAME:], type=kind)
            (artifact.add_dir if path.is_dir() else artifact.add_file)(str(path))
            self._run.log_artifact(artifact)

        if self._keeps_files and path.exists():
            self._guard(send)

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.finish(exit_code=_exit_code(error))

    def finish(self, summary: Mapping[str, Any] | None = None, *, exit_code: int = 0) -> None:
        """Writes the final values and closes the run; wandb shows it as finished, failed (any other `exit_code`) or
        killed (255)."""

        def close() -> None:
            self._run.summary.update(dict(summary or {}))
            self._run.finish(exit_code=exit_code)

        self._guard(close)
        self.alive = False

    def _guard(self, action: Callable[[], Any]) -> None:
        if not self.alive:
            return
        try:
            action()
        except Interrupted:  # a second signal ends the run at once
            raise
        except Exception as error:
            self.alive = False
            log.warning("wandb is switched off for this run: %s", _first_line(error))
            self._let_go()

    def _let_go(self) -> None:
        """Ends the run as far as wandb lets it: its init would hand a run that goes on to the next cell of a study."""
        try:
            if self._run is not None:
                self._run.finish(exit_code=1)
        except Interrupted:
            raise
        except Exception as error:
            log.debug("wandb: %s", _first_line(error))


def _identity(path: Path) -> str:
    """The name in the file `path`, made up when there is none."""
    if not path.exists():
        write_text(path, _new_identity())
    return path.read_text(encoding="utf-8").strip()


def _new_identity() -> str:
    return secrets.token_hex(4)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    # As wandb itself ends a run at Ctrl-C: nothing is wrong with it, and it may go on.
    return 255 if isinstance(error, Interrupted | KeyboardInterrupt) else 1


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [repr(error)])[0]
