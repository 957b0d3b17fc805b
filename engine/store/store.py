"""The results of one run's command: each stage is reused, resumed, or made and kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from autolora.configs.files import of_folder
from autolora.configs.schema import RunConfig
from autolora.engine.disk.files import write_text
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.manifest import Stage, end
from autolora.engine.store.overwrite import put_evaluation_aside
from autolora.engine.store.plan import BASE_MODEL, names_of
from autolora.engine.store.sources import inputs_in_files
from autolora.engine.world import World
from autolora.problems.machine.content import File, base_files, identify


class Result(Protocol):
    """What a stage gives."""

    def save(self, root: Path) -> None:
        """Writes itself below a run's folder, its last file at the end."""


@dataclass
class Store:
    """The stages of one command in a run's folder.

    `stages`: those of the command, whose manifests are compared with what is read. `world`: that of
    every stage, but for its folder and its beginning. `made`: with what the results are made.
    `known`: the inputs that were read so far, by name. Of several processes only the first writes.
    """

    config: RunConfig
    folder: RunFolder
    stages: Sequence[Stage]
    world: World
    made: Mapping[str, Any] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)

    def todo(self) -> set[str]:
        """The stages that are not done; the same in all processes."""
        return self.world.processes.of_first(
            lambda: {stage.name for stage in self.stages if not (stage.done or stage.foreign)}
        )

    def know(self, name: str, value: Any, where: str) -> None:
        """An input has been read. Raises Changed if a stage in the folder was made from another
        one. `where`: the key and the file that hold it."""
        self.known[name] = value
        for stage in self.stages:
            stage.check_input(name, value, where)

    def know_base(self, digest: str | None) -> None:
        """The base model has been read."""
        self.know(BASE_MODEL, digest, f"--model.name: {self.config.model.name}")

    def stage(
        self, name: str, function: Callable[..., Result], *values: Any, **options: Any
    ) -> None:
        """Makes a stage, a function of values and the world, and keeps its result. All processes
        must call this."""
        names = (name, "evaluate") if name == "retrain" else (name,)
        work = self.folder.root / name
        world = replace(self.world, work=work, begin=lambda: self.begin(*names))
        result = function(*values, world, **options)
        if self.world.processes.first:
            result.save(self.folder.root)
            self.folder.clear_leftovers()
            for stage in self.stages:
                if stage.name == name:
                    end(stage)
        del result
        self.world.processes.wait()
        self.world.compute.let_go()

    def begin(self, *names: str) -> None:
        """Writes config.yaml and the manifests of these stages: what has begun in the folder is
        what they say. A stage may begin several times, as trials do."""
        if not self.world.processes.first:
            return
        if names == ("evaluate",) and self.folder.metrics.exists():
            put_evaluation_aside(self.folder)
        if names != ("probe",) or not self.folder.config.exists():
            write_text(self.folder.config, of_folder(self.config))
        for stage in self.stages:
            # what only an earlier stage has read is compared once this process reads it, too
            if stage.recorded:
                self.known = stage.recorded.inputs | self.known
        in_files = inputs_in_files(self.config, self.folder)
        self.known |= {name: value for name, (value, _) in in_files.items()}
        for stage in self.stages:
            if stage.name in names and not stage.foreign:
                stage.begin(self.known, names_of(self.config), self.made, self._base_files())

    def _base_files(self) -> dict[str, File]:
        """The base model's files by their paths."""
        model = self.config.model
        return {str(path): identify(path) for path in base_files(model.name, model.revision)}
