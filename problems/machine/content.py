"""A file is what its bytes are: digests of files, and of the files of a base model.

A digest is remembered beside the size, the times and the inode of its file, so that 15 GB of
weights are not read twice. A copy, another name and another time of the same bytes are the same.
"""

import hashlib
import json
import re
from pathlib import Path

from pydantic import BaseModel

from autolora.configs.errors import UserError
from autolora.configs.locations import GGUF, locate

WEIGHTS = ("model*.safetensors", "pytorch_model*.bin", "*.safetensors", "*.bin")
"""The names of weights: those of the first pattern that fits are what transformers loads."""
_OF_ITS_WRITER = ("_name_or_path", "transformers_version")
"""Keys of config.json that tell who wrote it, not what the model computes."""


class File(BaseModel):
    """A file as it was when its bytes were read."""

    size: int
    modified_ns: int
    changed_ns: int
    inode: int
    sha256: str

    @property
    def seen(self) -> tuple[int, int, int, int]:
        """What the file system says of it. No program sets `changed_ns` back: a file of which all
        four are the same has the same bytes."""
        return self.size, self.modified_ns, self.changed_ns, self.inode


_REMEMBERED: dict[tuple[int, int, int, int], str] = {}
"""What the file system said of a file -> its digest."""


def remember(file: File) -> None:
    """Keeps a digest that was written down earlier, so that the file need not be read again."""
    _REMEMBERED[file.seen] = file.sha256


def identify(path: Path) -> File:
    """The file at `path`; its bytes are read unless their digest is remembered."""
    status = path.stat()
    file = File(
        size=status.st_size,
        modified_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
        inode=status.st_ino,
        sha256="",
    )
    if file.seen not in _REMEMBERED:
        _REMEMBERED[file.seen] = _hub_digest(path) or _sha256(path)
    return file.model_copy(update={"sha256": _REMEMBERED[file.seen]})


def digest_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    return identify(path).sha256


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _hub_digest(path: Path) -> str | None:
    """The digest by which the hub's cache names a large file; None for other files."""
    blob = path.resolve()
    named_by_digest = blob.parent.name == "blobs" and re.fullmatch("[0-9a-f]{64}", blob.name)
    return blob.name if named_by_digest else None


def base_files(name: str, revision: str | None) -> list[Path]:
    """The weights and the config.json of a base model, as far as they lie on this machine; none
    for a package that is not installed, and for a model of the hub that was not loaded yet."""
    try:
        place = Path(locate(name))
    except UserError:
        return []
    if name.endswith(GGUF):
        return [place] if place.exists() else _cached(str(place.parent), place.name, revision)
    if not place.is_dir():
        settings = _cached(name, "config.json", revision)
        if not settings:
            return []
        place = settings[0].parent
    weights: list[Path] = []
    for pattern in WEIGHTS:
        weights = weights or sorted(place.glob(pattern))
    settings = [path for path in [place / "config.json"] if path.exists()]
    return weights + settings if weights else []


def _cached(repository: str, file: str, revision: str | None) -> list[Path]:
    """The file of a repository in the hub's cache; none if it is not there."""
    from huggingface_hub import try_to_load_from_cache  # its import takes a second

    try:
        found = try_to_load_from_cache(repository, file, revision=revision or "main")
    except ValueError:  # the name of no repository
        return []
    return [Path(found)] if isinstance(found, str) else []


def base_digest(name: str, revision: str | None) -> str | None:
    """The digest of all bytes of a base model's weights, and of what its config.json says; None if
    they do not lie on this machine. The folder's name does not count."""
    files = base_files(name, revision)
    if not files:
        return None
    digests = []
    for path in files:
        if path.name == "config.json":
            values = json.loads(path.read_text(encoding="utf-8"))
            said = {key: value for key, value in values.items() if key not in _OF_ITS_WRITER}
            digests.append(hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest())
        else:
            digests.append(digest_of(path))
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()
