"""The CSV file in which a benchmark keeps the trainings of studies, a row for each; their folders may be deleted."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pandas as pd

from autolora.configs.errors import UserError
from autolora.engine.disk.files import replacing

T = TypeVar("T")


class Trainings(Protocol[T]):
    """A module that knows the trainings of one benchmark, which it holds as a T. If a training stands in several of
    the parts that it joins, the last of them counts."""

    def of_study(self, root: Path, /) -> T: ...
    def read_table(self, path: Path, /) -> T: ...
    def joined(self, parts: Sequence[T], /) -> T: ...
    def write_table(self, found: T, path: Path, /) -> None: ...


def gathered(of: Trainings[T], table: str | None, studies: Sequence[str], option: str = "--studies") -> T:
    """The trainings that the file `table` holds, and those of studies, which the file then holds too. `option`: the
    one that names the studies. Raises UserError if there is neither a file nor a study."""
    known = Path(table) if table else None
    parts = [of.read_table(known)] if known and known.exists() else []
    parts += [of.of_study(Path(folder)) for folder in studies]
    if not parts:
        raise UserError(f"{option}, --table: give at least one of them, with trainings to read")
    found = of.joined(parts)
    if known and studies:
        of.write_table(found, known)
    return found


@dataclass(frozen=True)
class Layout:
    """What the columns of such a file hold: numbers, but for `texts`, and for `lists`, which hold several numbers or
    None. In those of `perhaps` a row may have nothing. `further`: says which columns of numbers follow; "": none."""

    columns: Sequence[str]
    texts: Collection[str]
    perhaps: Collection[str] = ()
    lists: Collection[str] = ()
    further: str = ""
    digits: str = "%.6f"

    def read(self, path: Path) -> pd.DataFrame:
        """The rows of a file that `write` wrote; a missing text is "". Raises UserError, which names the file, if it
        is not such a file."""
        kinds, lists = dict.fromkeys(self.texts, "str"), dict.fromkeys(self.lists, _numbers)
        try:
            table = pd.read_csv(path, dtype=kinds, converters=lists, keep_default_na=False, na_values=[""])
        except (OSError, ValueError) as error:
            raise UserError(f"{path}: cannot be read as a CSV file: {' '.join(str(error).split())}") from error
        fixed, more = list(table)[: len(self.columns)], list(table)[len(self.columns) :]
        if fixed != self.columns or bool(more) != bool(self.further):
            and_more = f" and {self.further}" if self.further else ""
            raise UserError(f"{path}: it must have the columns {', '.join(self.columns)}{and_more}")
        for name in (name for name in table if name not in lists):
            text, perhaps = name in self.texts, name in self.perhaps
            wrong = not text and not pd.api.types.is_numeric_dtype(table[name])
            if wrong or (table[name].isna().any() and not perhaps):
                allowed = f"a {'text' if text else 'number'}{' or nothing' if perhaps else ''}"
                raise UserError(f"{path}: in the column {name}, every row must have {allowed}")
        return table.fillna(dict.fromkeys(self.texts, ""))

    def write(self, table: pd.DataFrame, path: Path) -> None:
        """Writes the rows as a file that `read` reads, atomically. Creates the folder."""
        texts = table.assign(**{name: table[name].map(_text) for name in self.lists})
        with replacing(path) as temporary:  # the runs may have been deleted, so that this is the only copy
            texts.to_csv(temporary, index=False, float_format=self.digits)


def _numbers(text: str) -> list[float] | None:
    return [float(part) for part in text.split()] or None


def _text(values: Sequence[float] | None) -> str:
    return "" if values is None else " ".join(f"{value:.4g}" for value in values)


def digest(parts: Mapping[str, Any], length: int = 10) -> str:
    """A short text that differs if any of the parts does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:length]


def refuse_mixed(table: pd.DataFrame, by: list[str], digests: str, name: str, words: str) -> None:
    """Raises UserError, which names two trainings, if those with equal values in the columns `by` have two digests in
    the column `digests`. Of a digest with dots, each part is compared; an empty one is not. `name`: names a training
    by its columns, as "{method}, seed {seed}"; `words`: what differs, and what is allowed."""
    for _, part in table[digests].str.split(".", expand=True).fillna("").items():
        for _, rows in table.assign(part=part)[part != ""].groupby(by, sort=False):
            first = rows.iloc[0]
            for _, other in rows[rows["part"] != first["part"]].iterrows():
                names = f"{name.format(**first)} and {name.format(**other)}"
                raise UserError(f"{first['task']}: the trainings {names} have other {words}")
