"""What is written while a search runs: log lines, points of the trajectory, checkpoints."""

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from autolora.configs.errors import UserError
from autolora.engine.disk import checkpoint
from autolora.engine.run.same_machine import machine_of, warn_of_another_machine
from autolora.engine.run.workbench import Workbench
from autolora.engine.search.engine import SearchEngine
from autolora.engine.search.state import restore, snapshot
from autolora.engine.search.tracking import SearchTracking
from autolora.engine.search.trajectory import Trajectory
from autolora.engine.terminal.console import log
from autolora.engine.terminal.live_view import SearchProgress
from autolora.engine.tracking import Tracker
from autolora.engine.tracking.metrics_file import MetricsFile
from autolora.problems.machine.compute import wait_for

VERSION = 2
"""Of what a checkpoint means; raised when the same settings come to give other numbers."""


class SearchHook:
    """The engine calls this after every step.

    `settings`: stored in each checkpoint, and compared before a search resumes from it. Attribute `seconds`: time of
    the search so far, including the time before it was stopped and resumed.
    """

    def __init__(self, engine: SearchEngine, run: Workbench, settings: Mapping[str, Any], tracker: Tracker) -> None:
        self.engine = engine
        self.processes = run.processes
        self.search = run.searched.search
        self.settings = settings
        self.data = run.fingerprint
        self.folder = run.folder
        self.stop = run.stop
        self.tracking = SearchTracking(tracker, self.search.steps)
        self.metrics = MetricsFile(run.folder.search_metrics)
        self.trajectory = Trajectory(engine.lora.gates.names)
        self.progress: SearchProgress | None = None
        self.seconds = 0.0
        self._clock = time.perf_counter()
        # Since the last line of metrics.jsonl: the sums of L_tr and L_val, and in how many steps each was finite
        # (L_val is not known before the first outer step); then the number of steps, and their seconds.
        self._losses = torch.zeros(4, device=run.compute.device)
        self._since_line = [0, 0.0]
        self._save_is_due = self._stop_is_due = False

    def resume(self) -> None:
        """Resumes from the checkpoint; without one, starts the trajectory with the point at step 0."""
        found = self.processes.of_first(lambda: checkpoint.load(self.folder.search_checkpoint))
        if found is None:
            if self.processes.first:
                self.metrics.path.unlink(missing_ok=True)
            self._add_point()
        else:
            if found.get("version") != VERSION:
                raise UserError(
                    f"{self.folder.search_checkpoint}: another version of the program began this search, with other "
                    f"dropout masks; --overwrite starts again"
                )
            warn_of_another_machine("search", found.get("machine", {}), self.engine.lora.shared.compute)
            restore(self.engine, found)
            self.trajectory.restore(found["trajectory"])
            self.tracking.tracker.resumes()
            self.seconds, self._since_line = found["seconds"], found["since_line"]
            self._losses.copy_(found["losses"])
            if self.processes.first:
                self.metrics.cut_after(self.engine.global_step)
            log.info("search: resumes from step %d", self.engine.global_step)
        self._clock = time.perf_counter()

    def after_step(self, engine: SearchEngine, over: bool) -> None:
        """The engine calls this after every step. Raises Interrupted if a signal asked to stop, UserError if too many
        steps were skipped."""
        step = engine.global_step
        # The last step always has a line and a point, as the report and the ranks are about it.
        logged = over or step % self.search.log_every == 0
        if logged:  # wait for a GPU, so that the seconds of this line are those of its own steps
            wait_for(self._losses.device)
        now = time.perf_counter()
        self.seconds += now - self._clock
        self._since_line[0] += 1
        self._since_line[1] += now - self._clock
        self._clock = now
        self._losses += _finite_part(torch.stack((engine.lora.last_loss, self._outer_loss(step))))
        if logged:
            self._write_line()
        if over and step < engine.train_iters:
            log.info("search: stops at step %d, as no rank changed for %d checks", step, engine.settled.patience)
        self._stop_is_due |= self._asked_to_stop(step)
        self._save_is_due |= self._stop_is_due or step % self.search.checkpoint_every == 0
        # After an outer step, as a checkpoint does not hold the inner steps since the last one. None after the last
        # step: the search is over, and one resumed from it could take further steps.
        if not over and self._save_is_due and step % self.search.unroll_steps == 0:
            self._save()
            self._save_is_due = False
            if self._stop_is_due:
                self.stop.check()
        if self.progress is not None:
            self.progress.step(step)

    def _outer_loss(self, step: int) -> Tensor:
        """L_val of this step's outer step; NaN if it took none."""
        if step % self.search.unroll_steps == 0:
            return self.engine.selection.last_loss.to(self._losses)
        return torch.full_like(self._losses[0], math.nan)  # new_tensor would copy the number to a GPU, and wait

    def _asked_to_stop(self, step: int) -> bool:
        """Whether to stop after this step. Several processes decide together, and only at log steps, as a signal may
        reach them at different steps."""
        if self.processes.size > 1 and step % self.search.log_every != 0:
            return False
        return self.processes.agree(self.stop)

    def _write_line(self) -> None:
        """Writes a line of metrics.jsonl (means since the line before) and adds a point to the trajectory."""
        engine = self.engine
        count, spent = self._since_line
        train_sum, val_sum, train_known, val_known = self._losses.tolist()
        train_loss = train_sum / train_known if train_known else math.nan
        val_loss = val_sum / val_known if val_known else None
        ranks, skipped = engine.ranks(), engine.skipped_steps()
        line = {
            "step": engine.global_step,
            "train_loss": train_loss,
            "val_loss": val_loss,
            **engine.selection.diagnostics(),
            "seconds": spent / count,
            **({"mean_rank": sum(ranks) / len(ranks)} if ranks else {}),
            "forward_passes": engine.lora.shared.passes.forward,
            "backward_passes": engine.lora.shared.passes.backward,
            "skipped_steps": skipped,
        }
        if self.processes.first:
            self.metrics.add(line)
        self._add_point()
        self.tracking.point(line, self.trajectory, ranks)
        if self.progress is not None:
            self.progress.show(engine.global_step, train_loss, val_loss, ranks)
        self._losses.zero_()
        self._since_line = [0, 0.0]
        if skipped > self.search.max_bad_steps:
            raise UserError(
                f"--search.max_bad_steps: by step {engine.global_step} the loss or gradient of {skipped} steps was "
                f"not finite, allowed {self.search.max_bad_steps}; lower --search.learning_rate "
                f"({self.search.learning_rate:g}) or --search.selection_learning_rate "
                f"({self.search.selection_learning_rate:g}), or take another --hypergradient.type, with --overwrite"
            )

    def _add_point(self) -> None:
        self.trajectory.add(self.engine.global_step, self.engine.alpha(), self.engine.contribution())

    def _save(self) -> None:
        if self.processes.first:
            state = snapshot(self.engine) | {"trajectory": self.trajectory.tensors()}
            state |= {"seconds": self.seconds, "since_line": self._since_line, "losses": self._losses}
            state |= {"settings": self.settings, "data": self.data, "version": VERSION}
            state["machine"] = machine_of(self.engine.lora.shared.compute)
            checkpoint.save(self.folder.search_checkpoint, state)
        self._clock = time.perf_counter()


def _finite_part(losses: Tensor) -> Tensor:
    """The losses, with 0 in place of those that are not finite; then for each loss 1 if it is finite, else 0."""
    finite = losses.isfinite()
    return torch.cat((torch.where(finite, losses, 0.0), finite.to(losses)))
