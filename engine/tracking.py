"""Curves while a run goes: the local files, and wandb behind an interface that can fail without harm."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from configs.schema import RunConfig
from engine.run_folder import write_text

Mode = Literal["online", "offline", "disabled"]

log = logging.getLogger("autolora")


class MetricsFile:
    """One JSON object a line, each with its `step`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, values: Mapping[str, Any]) -> None:
        """Appends one line; a number that is not finite becomes null, as JSON has no NaN."""
        values = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")

    def cut_after(self, step: int) -> None:
        """Drops the lines after `step`: a search that goes on from its checkpoint writes them again."""
        lines = [line for line in self.read() if line["step"] <= step]
        write_text(self.path, "".join(json.dumps(line) + "\n" for line in lines))

    def read(self) -> list[dict[str, Any]]:
        """All complete lines."""
        if not self.path.exists():
            return []
        lines = []
        for text in self.path.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(json.loads(text))
            except json.JSONDecodeError:  # the line that a kill cut in half
                continue
        return lines


class Wandb:
    """A wandb run, or nothing. A call that fails switches it off with one warning; the training goes on."""

    def __init__(self, config: RunConfig, folder: Path, settings: Mapping[str, Any]) -> None:
        self._run: Any = None
        self._wandb: Any = None
        mode = wandb_mode(config)
        self._alive = mode != "disabled"
        self._guard(lambda: self._start(config, folder, settings, mode))

    def _start(self, config: RunConfig, folder: Path, settings: Mapping[str, Any], mode: Mode) -> None:
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._wandb = wandb
        self._run = wandb.init(
            project=config.tracking.project,
            entity=config.tracking.entity,
            group=config.tracking.group,
            name=config.name,
            dir=str(folder),
            config=dict(settings),
            mode=mode,
            settings=wandb.Settings(init_timeout=20, console="off", x_disable_stats=True),
        )
        self._run.define_metric("search/step", hidden=True)
        self._run.define_metric("search/*", step_metric="search/step")
        # One number per component: kept for queries and native plots, hidden so that they make no chart each.
        self._run.define_metric("alpha/*", step_metric="search/step", hidden=True)
        self._run.define_metric("rank/*", step_metric="search/step", hidden=True)

    def log(self, values: Mapping[str, Any]) -> None:
        """Numbers of one moment."""
        self._guard(lambda: self._run.log(dict(values)))

    def image(self, key: str, path: Path) -> None:
        """A picture from a file."""
        self._guard(lambda: self._run.log({key: self._wandb.Image(str(path))}))

    def trajectories(self, key: str, steps: list[int], curves: Mapping[str, list[float]]) -> None:
        """One line chart with a line for each of `curves`."""
        self._guard(
            lambda: self._run.log(
                {
                    key: self._wandb.plot.line_series(
                        xs=steps, ys=list(curves.values()), keys=list(curves), title=key, xname="step"
                    )
                }
            )
        )

    def finish(self, summary: Mapping[str, Any] | None = None) -> None:
        """Writes the final values and closes the run."""

        def close() -> None:
            self._run.summary.update(dict(summary or {}))
            self._run.finish()

        self._guard(close)
        self._alive = False

    def _guard(self, action: Callable[[], Any]) -> None:
        if not self._alive:
            return
        try:
            action()
        except Exception as error:
            self._alive = False
            log.warning("wandb is switched off for this run: %s", (str(error).splitlines() or [repr(error)])[0])


def wandb_mode(config: RunConfig) -> Mode:
    """online, offline or disabled. auto: WANDB_MODE if set, else online with an API key, else offline."""
    wanted = config.tracking.wandb
    if wanted != "auto":
        return wanted
    modes: dict[str, Mode] = {"online": "online", "offline": "offline", "disabled": "disabled"}
    if os.environ.get("WANDB_MODE", "") in modes:
        return modes[os.environ["WANDB_MODE"]]
    if os.environ.get("WANDB_API_KEY"):
        return "online"
    netrc = Path.home() / (".netrc" if os.name != "nt" else "_netrc")
    try:
        return "online" if "api.wandb.ai" in netrc.read_text(encoding="utf-8") else "offline"
    except (OSError, UnicodeDecodeError):
        return "offline"
