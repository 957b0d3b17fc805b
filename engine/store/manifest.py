"""`<stage>/manifest.json` says from what a stage was made, and which files it left.

Before its first step a stage writes down its settings, the digests of what it read, and with what
it was made. Equal manifests give equal results, so that finished work is reused and half-done work
goes on; other work is refused by its first difference. Settings are compared before torch is
loaded, rows once they are encoded. After its last step a stage writes down the files that it left,
so that one which is missing, cut or edited is told by its name.
"""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from autolora.configs.errors import UserError
from autolora.configs.layers import OF_THRESHOLD
from autolora.configs.schema import RunConfig
from autolora.configs.study import word
from autolora.engine import ranks
from autolora.engine.disk.files import read_json, write_text
from autolora.engine.ranks.record import BY_HAND
from autolora.engine.store.folder import RunFolder
from autolora.engine.store.plan import BASE_MODEL, STAGES, settings_of
from autolora.problems.machine.content import File, identify, remember

log = logging.getLogger("autolora")

VERSION = 6
"""Raised when the same settings come to mean another result, or a manifest another thing."""
_UNREAD = ("README.md", "manifest.json")
"""Files that no stage, page or loader reads: an adapter's card, and what stands here."""


class Changed(UserError):
    """What lies in the folder was made from something else, or was changed since. `stage`: the name
    of the first such stage."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(stage, message)  # of both: it is sent to other processes
        self.stage = stage
        self.message = message

    def __str__(self) -> str:
        return self.message


class Manifest(BaseModel):
    """manifest.json.

    `names`: where rows and base model came from, as names_of says it. `base_files`: the base
    model's files by their paths, so that they need not be read again. `files`: what the finished
    stage left, by paths in the run's folder; empty while it is half done.
    """

    version: int = VERSION
    settings: dict[str, Any]
    names: dict[str, str] = {}
    inputs: dict[str, Any] = {}
    made: dict[str, Any] = {}
    base_files: dict[str, File] = {}
    files: dict[str, File] = {}


@dataclass(frozen=True)
class Stage:
    """A stage of this command, beside what its folder holds of it: `recorded` (None: it has not
    begun).

    `foreign`: the stage of another run, which this one only reads; of its settings only those in
    `settings` count.
    """

    name: str
    folder: RunFolder
    settings: Mapping[str, Any]
    recorded: Manifest | None
    foreign: str = ""

    @classmethod
    def of(cls, name: str, config: RunConfig, folder: RunFolder) -> "Stage":
        """The stage `name` of a run in `folder`."""
        return cls(name, folder, settings_of(config, name), recorded_in(folder, name))

    @property
    def done(self) -> bool:
        """Whether its last file exists and is its own: ranks may also be written by hand."""
        return self.ended and (self.recorded is not None or self.by_hand)

    @property
    def ended(self) -> bool:
        """Whether its last file exists."""
        last: Path = getattr(self.folder, STAGES[self.name].last)
        return last.exists()

    @property
    def by_hand(self) -> bool:
        """Whether the stage would write ranks.json, and a user has written it."""
        return STAGES[self.name].last == "ranks" and ranks.load(self.folder.ranks).rule == BY_HAND

    def check_settings(self) -> None:
        """Raises Changed if what the folder holds was made with other settings, or by another
        version."""
        if self.recorded is None:
            if self.ended and not self.by_hand and not self.foreign:
                self._refuse("by another method, or by an older version of the program")
            return
        if self.recorded.version != VERSION:
            self._refuse(f"by version {self.recorded.version} of the program, now it is {VERSION}")
        # A search that is done has ended, early or not: another rule may read it.
        left = OF_THRESHOLD if self.name == "search" and self.done else ()
        keys = self.settings if self.foreign else {**self.settings, **self.recorded.settings}
        for key in keys:
            then = self.recorded.settings.get(key)
            now = self.settings.get(key)
            if then != now and key not in left:
                self._refuse(f"with --{key} {word(then)}, now it is {word(now)}")

    def check_input(self, name: str, value: Any, where: str) -> None:
        """Raises Changed if it was made from another input. `where`: the key and the file that hold
        the input."""
        then = self.recorded.inputs if self.recorded and name in STAGES[self.name].inputs else {}
        if then.get(name, value) != value:
            self._refuse(f"from other {name} ({where})")

    def check_files(self) -> None:
        """Raises Changed if a file that the finished stage left is missing, cut or edited.

        Ranks may be edited by hand; the stages that read them compare them themselves.
        """
        if self.recorded is None or not self.done:
            return
        if STAGES[self.name].last == "ranks" and self._fault(self.folder.ranks):
            return
        for name in self.recorded.files:
            path = self.folder.root / name
            if fault := self._fault(path):
                self._refuse_file(path, fault)

    def _fault(self, path: Path) -> str:
        """What is wrong with a file that the stage left; empty if nothing is."""
        assert self.recorded is not None
        then = self.recorded.files.get(path.relative_to(self.folder.root).as_posix())
        if then is None:
            return ""
        if not path.exists():
            return "is missing"
        if path.stat().st_size < then.size:
            return "was cut"
        remember(then)
        return "" if identify(path).sha256 == then.sha256 else "was edited"

    def _refuse_file(self, path: Path, fault: str) -> None:
        if self.foreign:
            raise UserError(f"--{self.foreign}: {path} {fault}; bring it back")
        raise Changed(
            self.name,
            f"{path} {fault} since the stage {self.name} wrote it; bring it back, or give "
            f"--overwrite, which makes it anew from {self.name} on and keeps the old results",
        )

    def _refuse(self, why: str) -> None:
        how = "was made" if self.ended else "is half done"
        place = f"{self.folder.root / self.name} {how} {why}"
        if self.foreign:
            raise UserError(
                f"--{self.foreign}: {place}; give the old value, or another --{self.foreign}"
            )
        raise Changed(
            self.name,
            f"{place}; give the old value, another --name, or --overwrite, which keeps the old "
            "results",
        )

    def begin(
        self,
        known: Mapping[str, Any],
        names: Mapping[str, str],
        made: Mapping[str, Any],
        base_files: Mapping[str, File],
    ) -> None:
        """Writes the manifest before the first step. Of half-done work it stays, and what it was
        made with is told if it differs now."""
        path = _manifest(self.folder, self.name)
        if not path.exists():  # a stage may begin several times, as trials do
            inputs = {name: known[name] for name in STAGES[self.name].inputs if name in known}
            manifest = Manifest(
                settings=dict(self.settings),
                names=dict(names),
                inputs=inputs,
                made=dict(made),
                base_files=dict(base_files) if BASE_MODEL in inputs else {},
            )
            write_text(path, manifest.model_dump_json(indent=1) + "\n")
        then = self.recorded.made if self.recorded else {}
        others = {key: value for key, value in then.items() if made.get(key, value) != value}
        if others and not self.done:
            log.warning(
                "%s: began with %s, so that it ends at other numbers than without the stop",
                self.name,
                others,
            )


def places_of(folder: RunFolder, name: str) -> list[Path]:
    """What a stage has written: its own folder, and the files and folders beside it, the one that
    it writes last at the end."""
    plan = STAGES[name]
    own = folder.root / name
    places = [own]
    for attribute in (*plan.files, plan.last):
        place: Path = getattr(folder, attribute)
        if own not in place.parents:
            places.append(place)
    return [place for place in places if place.exists()]


def recorded_in(folder: RunFolder, name: str) -> Manifest | None:
    """The manifest of a stage in a folder; None if the stage has not begun."""
    content = read_json(_manifest(folder, name))
    if not content:
        return None
    manifest = Manifest.model_validate(content)
    for file in manifest.base_files.values():
        remember(file)
    return manifest


def end(stage: Stage) -> None:
    """Writes down what a finished stage left. Nothing is done for a stage that is half done, or
    that knows its files already."""
    if stage.foreign or not stage.ended or STAGES[stage.name].grows:
        return
    manifest = recorded_in(stage.folder, stage.name)
    if manifest is None or manifest.files:
        return
    files = {
        path.relative_to(stage.folder.root).as_posix(): identify(path)
        for path in _left(stage.folder, stage.name)
    }
    _write(stage.folder, stage.name, manifest.model_copy(update={"files": files}))


def forget(folder: RunFolder, name: str, path: Path) -> None:
    """A file or folder that a stage left was removed on purpose, and is no longer asked for."""
    manifest = recorded_in(folder, name)
    if manifest is None:
        return
    gone = path.relative_to(folder.root)
    files = {
        kept: file
        for kept, file in manifest.files.items()
        if gone not in (Path(kept), *Path(kept).parents)
    }
    if files != manifest.files:
        _write(folder, name, manifest.model_copy(update={"files": files}))


def _left(folder: RunFolder, name: str) -> Iterator[Path]:
    """The files of a finished stage that others read."""
    plan = STAGES[name]
    for attribute in (*plan.files, plan.last):
        place: Path = getattr(folder, attribute)
        if place.is_file():
            yield place
        elif place.is_dir():
            yield from (
                path
                for path in sorted(place.rglob("*"))
                if path.is_file() and path.name not in _UNREAD
            )


def _manifest(folder: RunFolder, name: str) -> Path:
    return folder.root / name / "manifest.json"


def _write(folder: RunFolder, name: str, manifest: Manifest) -> None:
    write_text(_manifest(folder, name), manifest.model_dump_json(indent=1) + "\n")
