"""WebNLG 2017 as LoRA's authors ship it: train.json, dev.json and test.json of entries in the challenge's own form.

{"entries": [{"1": {"category": .., "lexicalisations": [{"lex": .., "comment": ..}],
                    "modifiedtripleset": [{"subject": .., "property": .., "object": ..}]}}]}
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from autolora.configs.errors import UserError
from autolora.problems.tasks.readers.numbering import Row
from autolora.problems.tasks.readers.objects import read_json

_FILES = {"train": "train.json", "validation": "dev.json", "test": "test.json"}


def lora_splits(folder: Path) -> dict[str, list[Row]] | None:
    """The rows of each split in the folder, with the columns that `webnlg_records` reads; None for other folders.

    Raises UserError, naming the file, for entries of another form.
    """
    found = {split: folder / name for split, name in _FILES.items() if (folder / name).is_file()}
    if "train" not in found:
        return None
    contents = {split: read_json(f"--task.path: {path}", path) for split, path in found.items()}
    if not isinstance(contents["train"], dict) or "entries" not in contents["train"]:
        return None
    return {split: _rows(found[split], content) for split, content in contents.items()}


def _rows(path: Path, content: Any) -> list[Row]:
    try:
        return [_row(entry) for numbered in content["entries"] for entry in numbered.values()]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"--task.path: {path} is not WebNLG as LoRA's authors ship it (entries with lexicalisations and "
            f"modifiedtripleset); {type(error).__name__}: {error}"
        ) from error


def _row(entry: Mapping[str, Any]) -> Row:
    triples = [" | ".join(triple[part] for part in ("subject", "property", "object")) for triple in
               entry["modifiedtripleset"]]  # fmt: skip
    texts = [{"lex": text["lex"], "comment": text.get("comment", "good")} for text in entry["lexicalisations"]]
    return {"modifiedtripleset": triples, "lexs": texts, "category": entry.get("category", "")}
