"""Where conversations are: in a user's files, or in a data set of the hub or of a local folder with its splits."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from autolora.configs.endings import CHATS, DELIMITED, OF_FILES, ending, refuse_other_ending
from autolora.configs.errors import UserError
from autolora.configs.tasks import Chat as Settings
from autolora.problems.columns import require_columns
from autolora.problems.tasks.readers.chat import Chat, chat_of, form_of, tell_other_thoughts
from autolora.problems.tasks.readers.hub import load_splits
from autolora.problems.tasks.readers.numbering import LINE, Numbered, at, in_words
from autolora.problems.tasks.readers.objects import read_objects
from autolora.problems.tasks.readers.splits import Source, evaluation_source, hold_out, origin, tell_unused_share
from autolora.problems.tasks.readers.table import read_table

log = logging.getLogger("autolora.inputs")

_SPLITS = ("validation", "test")


class ChatSources:
    """The conversations to train and to evaluate on.

    `split`: the name of the split to evaluate on; `held_out`: whether `read` took these conversations out of the
    training ones.
    """

    def __init__(self, config: Settings, seed: int) -> None:
        self.config = config
        self.seed = seed
        self.path = Path(str(config.path))
        self.split = config.evaluated_split
        self.held_out = False
        self._told: set[tuple[str, ...]] = set()

    @property
    def _in_a_file(self) -> bool:
        return ending(self.path) in OF_FILES or self.path.is_file()

    def read(self) -> tuple[list[Chat], list[Chat]]:
        """The training and the evaluated conversations. Raises UserError for what cannot be read."""
        train, evaluated = self._of_file() if self._in_a_file else self._of_splits()
        _refuse_text_beside_turns(train[0], evaluated[0])
        return train, evaluated

    def origin(self, split: str | None) -> str:
        """How a message about the training rows (None), or about `split`, begins; see `Task.origin`."""
        of_hub = not self._in_a_file and (split is None or self.config.file_of(split) is None)
        return f"--task.path: {self.config.path}" if of_hub else origin(self.config, split)

    def _of_file(self) -> tuple[list[Chat], list[Chat]]:
        """The conversations of the file to train on, and those to evaluate on, of a file or held out of the former."""
        source = evaluation_source(self.config, self.split)
        train = self._file("--task.path", self.path)
        return self._held_out(train) if source.held_out else (train, self._file(source.option, source.path))

    def _of_splits(self) -> tuple[list[Chat], list[Chat]]:
        """The split train of a data set of the hub or of a folder, and the conversations to evaluate on.

        The latter come from the user's file if there is one, else from a split, else they are held out of the former.
        """
        path = str(self.config.path)
        splits: Mapping[str, Any] = load_splits(
            path, self.config.configuration, "chat", self.config.revision, may_choose=True
        )
        first = _training_split(path, list(splits))
        train = self._chats(f"--task.path: {path}, {first}", Numbered.by_row(splits[first].to_list()))
        given = self.config.file_of(self.split)
        if given is not None:
            source: Source = evaluation_source(self.config, self.split)
            return train, self._file(source.option, source.path)
        wanted = [self.config.evaluation_split] if self.config.evaluation_split else list(_SPLITS)
        found = next((name for name in wanted if name in splits), None)
        if found is not None:
            self.split = found
            tell_unused_share(self.config, found)
            return train, self._chats(f"--task.path: {path}, {found}", Numbered.by_row(splits[found].to_list()))
        if self.config.evaluation_split not in (None, "validation"):
            raise UserError(
                f"--task.evaluation_split: {path} has no split {self.split!r}; it has: {', '.join(splits)}"
            )
        return self._held_out(train)

    def _file(self, option: str, path: Path) -> list[Chat]:
        return self._chats(f"{option}: {path}", _rows_of(option, path))

    def _chats(self, where: str, given: Numbered) -> list[Chat]:
        form = form_of(where, given)
        if form not in self._told:
            columns = f"{'columns' if len(form) > 1 else 'column'}: {', '.join(form)}"
            log.info("chat: %s, %d rows, read from %s", where, len(given.rows), columns)
            self._told.add(form)
        tell_other_thoughts(where, given.rows, form)
        chats: list[Chat] = []
        faults: dict[int, UserError] = {}
        for number, row in zip(given.numbers, given.rows, strict=True):
            try:
                chats.append(chat_of(f"{where}, {at(given.unit, number)}", row, form))
            except UserError as error:
                faults[number] = error
        if faults:
            self._tell_bad_rows(where, given.unit, faults, left=len(chats))
        return chats

    def _tell_bad_rows(self, where: str, unit: str, faults: Mapping[int, UserError], left: int) -> None:
        """Raises UserError for rows that cannot be learned, so that all of them can be mended at once.

        With task.bad_rows drop it warns of them instead, unless no row is left.
        """
        numbers, first = list(faults), next(iter(faults.values()))
        reason = str(first).removeprefix(f"{where}, ").removesuffix("; remove the row")
        told = in_words(unit, numbers)
        if self.config.bad_rows == "drop" and left:
            log.warning("%s: task.bad_rows drop leaves out %s that cannot be learned; %s", where, told, reason)
            return
        if len(faults) == 1:
            raise first
        advice = "mend or remove them, or give --task.bad_rows drop" if left else "mend them"
        raise UserError(f"{where}: {told} cannot be learned; {reason}; {advice}")

    def _held_out(self, chats: list[Chat]) -> tuple[list[Chat], list[Chat]]:
        """Holds out whole prompts, not rows: another answer to a trained prompt would give the answer away."""
        self.held_out = True
        groups: dict[str, list[Chat]] = {}
        for chat in chats:
            groups.setdefault(chat.source, []).append(chat)
        if len(groups) < 2:
            raise UserError(
                f"--task.path: all rows of {self.path} begin with the same prompt, so none can be held out; allowed: "
                f"two or more prompts, or --task.validation_path"
            )
        kept, held_out = hold_out(len(groups), self.config.holdout_share, self.seed, self.path, kind="prompt")
        each = list(groups.values())
        return [chat for i in kept for chat in each[i]], [chat for i in held_out for chat in each[i]]


def _rows_of(option: str, path: Path) -> Numbered:
    """The rows of a file. In CSV and TSV each cell is a text, so that only forms of texts can be read from them."""
    refuse_other_ending(option, path, CHATS)
    if ending(path) not in DELIMITED:
        return read_objects(option, path)
    table = read_table(option, path)
    names = list(table.columns)
    require_columns(option, path, names, list(dict.fromkeys(filter(None, names))))
    rows = [dict(zip(names, cells, strict=True)) for cells in table.itertuples(index=False, name=None)]
    return Numbered(rows, list(table.index), LINE)


def _training_split(path: str, splits: Sequence[str]) -> str:
    """The split train, else the first whose name begins so, such as train_sft; a warning names those not read.

    Raises UserError if there is none.
    """
    found = sorted((name for name in splits if name.startswith("train")), key=lambda name: name != "train")
    if not found:
        raise UserError(f"--task.path: {path} has no split train; it has: {', '.join(splits)}")
    if others := ", ".join(found[1:]):
        log.warning("--task.path: of %s the split %s is trained on; not read: %s", path, found[0], others)
    return found[0]


def _refuse_text_beside_turns(train: Chat, evaluated: Chat) -> None:
    """Refuses plain texts beside conversations: a model would be judged in a form that it has not learned."""
    if (train.text is None) == (evaluated.text is None):
        return
    forms = ["turns of a conversation" if chat.text is None else "a plain text" for chat in (train, evaluated)]
    raise UserError(
        f"{evaluated.where} holds {forms[1]}, but the training rows hold {forms[0]} ({train.where}); allowed: the "
        f"same form in both"
    )
