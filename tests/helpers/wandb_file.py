"""What an offline wandb run holds: its .wandb file, a LevelDB log of wandb's own protobuf records."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wandb.proto.wandb_internal_pb2 import Record

_BLOCK, _HEAD = 32768, 7
_FULL, _LAST = 1, 4


class OfflineRun:
    """All records of the one offline run under `folder`/wandb."""

    def __init__(self, folder: Path) -> None:
        (self.root,) = folder.glob("wandb/offline-run-*")
        (file,) = self.root.glob("run-*.wandb")
        self.records = []
        for part in _parts(file.read_bytes()):
            record = Record()
            record.ParseFromString(part)
            self.records.append(record)

    @property
    def history(self) -> list[dict[str, Any]]:
        """The logged values, a dictionary for each call."""
        return [_values(r.history.item) for r in self.records if r.WhichOneof("record_type") == "history"]

    @property
    def summary(self) -> dict[str, Any]:
        """The last value of each key of the summary."""
        found: dict[str, Any] = {}
        for record in self.records:
            if record.WhichOneof("record_type") == "summary":
                found |= _values(record.summary.update)
        return found

    @property
    def metrics(self) -> dict[str, Any]:
        """define_metric: name or pattern -> record."""
        found = [r.metric for r in self.records if r.WhichOneof("record_type") == "metric"]
        return {m.glob_name or m.name: m for m in found}

    @property
    def run(self) -> Any:
        """Name, group, job, tags, config."""
        return next(r.run for r in self.records if r.WhichOneof("record_type") == "run")

    @property
    def exit_code(self) -> int | None:
        """The exit code that wandb recorded; None if the run has not ended."""
        found = [r.exit.exit_code for r in self.records if r.WhichOneof("record_type") == "exit"]
        return found[-1] if found else None

    def media(self, value: dict[str, Any]) -> Path:
        """The file of a logged picture or table."""
        return self.root / "files" / value["path"]


def _values(items: Any) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for item in items:
        keys = list(item.nested_key) or [item.key]
        node = found
        for key in keys[:-1]:
            node = node.setdefault(key, {})
        node[keys[-1]] = json.loads(item.value_json)
    return found


def _parts(content: bytes) -> Iterator[bytes]:
    """The records of a LevelDB log after wandb's own head: chunks of at most a block, each with checksum, length,
    kind. wandb may still be writing: a last chunk that is not complete yet is left out."""
    assert content[:4] == b":W&B"
    at, held = _HEAD, b""
    while at + _HEAD <= len(content):
        room = _BLOCK - at % _BLOCK
        if room < _HEAD:
            at += room
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        if at + _HEAD + length > len(content):
            return
        held += content[at + _HEAD : at + _HEAD + length]
        at += _HEAD + length
        if kind in (_FULL, _LAST):
            yield held
            held = b""
