"""Conversations from the columns that people keep them in.

    messages                        {"role", "content"} of system, user and assistant, any number of turns
    conversations                   {"from", "value"}, as ShareGPT has them
    prompt, completion              texts or messages; only the completion is learned
    instruction, input, output      as Alpaca has them
    text                            one text, all of it learned, without a template

If a file has the columns of several of these forms, the first form is read. A column `system` is the system turn of a
conversation that has none, and `history` holds earlier turns of an instruction.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from autolora.configs.errors import UserError
from autolora.problems.columns import listed
from autolora.problems.tasks.readers.numbering import Numbered, Row, at
from autolora.problems.tasks.readers.objects import filled, kind_of, sound
from autolora.problems.tasks.templates import Message, answers

log = logging.getLogger("autolora.inputs")

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant", "bot": "assistant",
}  # fmt: skip
_TOOLS = {
    "tool", "function", "ipython", "function_call", "function_response", "tool_call", "tool_response", "observation",
}  # fmt: skip
_CALLS = ("tool_calls", "function_call", "tool_call_id")
_THOUGHTS = "reasoning_content"
_NOT_READ = ("thinking", "reasoning")
_OFFERS = ("tools", "functions")
_NONE_OFFERED: tuple[Any, ...] = (None, "", "[]", "null", [], {})


@dataclass(frozen=True)
class Chat:
    """A conversation, and the numbers of the messages that are learned (counted from 0, at least one).

    `text`: a plain text instead of messages. `where`: option, file and line (or row), with which a message about it
    begins.
    """

    where: str
    messages: tuple[Message, ...] = ()
    learned: tuple[int, ...] = ()
    text: str | None = None

    @property
    def last(self) -> int:
        """The number of the last message that is learned."""
        return self.learned[-1]

    @property
    def prompt(self) -> str:
        """The messages before the last answer that is learned, as JSON; for a plain text, the text itself."""
        return self.text if self.text is not None else json.dumps(self.messages[: self.last], ensure_ascii=False)

    @property
    def source(self) -> str:
        """The messages before the first answer, as JSON; for a plain text, the text itself.

        Rows that share any prompt share this one, also rows that hold the same conversation up to different turns."""
        if self.text is not None:
            return self.text
        return json.dumps(self.messages[: answers(self.messages)[0]], ensure_ascii=False)


class _Turn(NamedTuple):
    """A message, and whether it is learned if it is an answer."""

    message: Message
    learned: bool = True


def form_of(where: str, given: Numbered) -> tuple[str, ...]:
    """The columns from which the rows of a file are read.

    Raises UserError, which lists the file's columns, if they fit no form. A warning tells of a history that is not
    read.
    """
    known = dict.fromkeys(name for row in given.rows for name, value in row.items() if value is not None)
    for form in _FORMS:
        if all(name in known for name in form if name not in _OPTIONAL):
            found = tuple(name for name in form if name in known)
            return found if form == _TEXT else (*found, *_beside(where, given, form))
    raise UserError(
        f"{where} has no conversations; allowed: the columns messages, conversations, prompt and completion, "
        f"instruction and output, or text; it has: {listed(list(known)) or 'none'}"
    )


def _beside(where: str, given: Numbered, form: tuple[str, ...]) -> list[str]:
    """The columns that are read beside those of a form: system, and for an instruction its history."""
    found = ["system"] if any(row.get("system") for row in given.rows) else []
    rows = zip(given.numbers, given.rows, strict=True)
    histories = {number: row["history"] for number, row in rows if row.get("history")}
    wrong = [number for number, history in histories.items() if not _are_pairs(history)]
    if len(wrong) < len(histories) and form[0] == "instruction":
        if wrong:
            raise UserError(
                f"{where}, {at(given.unit, wrong[0])}: column 'history' is no list of [user, assistant] pairs of texts"
            )
        return [*found, "history"]
    if histories:
        log.warning(
            "%s: column 'history' is not read; it is read beside instruction and output, where each row has a list of "
            "[user, assistant] pairs", where,
        )  # fmt: skip
    return found


def _are_pairs(history: Any) -> bool:
    return isinstance(history, list) and all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(text, str) for text in pair) for pair in history
    )


def chat_of(where: str, row: Row, form: tuple[str, ...]) -> Chat:
    """The conversation of a row. Raises UserError, beginning with `where`, for one that cannot be learned from."""
    if form == _TEXT:
        return Chat(where, text=filled(where, "text", row.get("text")))
    offered = next((name for name in _OFFERS if row.get(name) not in _NONE_OFFERED), None)
    if offered is not None:
        raise UserError(f"{where}: column {offered!r} offers tools to the assistant; allowed: nothing in this column")
    read = next(read for known, read in _FORMS.items() if known[0] == form[0])
    columns = {name: row.get(name) for name in form}
    turns = _with_system(where, columns.get("system"), read(where, columns))
    messages = tuple(turn.message for turn in turns)
    learned = tuple(number for number in answers(messages) if turns[number].learned)
    if not learned:
        which = " that is to be learned (weight, train)" if answers(messages) else ""
        raise UserError(f"{where}: no assistant turn after a user's{which}, so nothing can be learned; remove the row")
    return Chat(where, messages, learned)


def _with_system(where: str, given: Any, turns: Sequence[_Turn]) -> Sequence[_Turn]:
    """The turns, after the text of the column `system` if they have no system turn of their own."""
    if given is not None and not isinstance(given, str):
        raise UserError(f"{where}: column 'system' holds {kind_of(given)}; allowed: a text")
    if not given or not given.strip() or any(turn.message["role"] == "system" for turn in turns):
        return turns
    return [_Turn({"role": "system", "content": sound(f"{where}: column 'system'", given)}), *turns]


def _messages(where: str, row: Row) -> list[_Turn]:
    return _turns(where, "messages", row.get("messages"), ("role", "content"))


def _conversations(where: str, row: Row) -> list[_Turn]:
    turns = row.get("conversations")
    first = turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], Mapping) else {}
    keys = ("role", "content") if first.get("role") is not None else ("from", "value")
    return _turns(where, "conversations", turns, keys)


def _completion(where: str, row: Row) -> list[_Turn]:
    before = _one_or_more(where, "prompt", row.get("prompt"), "user")
    after = _one_or_more(where, "completion", row.get("completion"), "assistant")
    if not any(turn.message["role"] == "assistant" for turn in after):
        raise UserError(
            f"{where}: column 'completion' has no assistant turn, so nothing can be learned; remove the row"
        )
    return [*map(_given, before), *after]


def _instruction(where: str, row: Row) -> list[_Turn]:
    task, more = filled(where, "instruction", row.get("instruction")), row.get("input")
    if more is not None and not isinstance(more, str):
        raise UserError(f"{where}: column 'input' holds {kind_of(more)}; allowed: a text")
    question = sound(where, f"{task}\n\n{more}") if more and more.strip() else task
    before = [text for pair in row.get("history") or [] for text in pair]
    texts = [*(filled(where, "history", text) for text in before), question]
    turns = [_Turn({"role": ("user", "assistant")[i % 2], "content": text}) for i, text in enumerate(texts)]
    answer = filled(where, "output", row.get("output"))
    return [*map(_given, turns), _Turn({"role": "assistant", "content": answer})]


def _given(turn: _Turn) -> _Turn:
    return turn._replace(learned=False)


_TEXT = ("text",)
_FORMS: dict[tuple[str, ...], Callable[[str, Row], list[_Turn]]] = {
    ("messages",): _messages,
    ("conversations",): _conversations,
    ("prompt", "completion"): _completion,
    ("instruction", "input", "output"): _instruction,
    _TEXT: lambda where, row: [],
}
_OPTIONAL = {"input"}


def _one_or_more(where: str, column: str, value: Any, role: str) -> list[_Turn]:
    """The turns of a column that holds messages, or one text, which is a turn of this role."""
    if isinstance(value, list):
        return _turns(where, column, value, ("role", "content"))
    return [_Turn({"role": role, "content": filled(where, column, value)})]


def _turns(where: str, column: str, turns: Any, keys: tuple[str, str]) -> list[_Turn]:
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{where}: column {column!r} holds {kind_of(turns)}; allowed: a list of turns")
    found = (_turn(f"{where}: turn {number} of {column!r}", turn, keys) for number, turn in enumerate(turns, 1))
    return [turn for turn in found if turn is not None]


def tell_other_thoughts(where: str, rows: Sequence[Row], form: tuple[str, ...]) -> None:
    """Warns of thoughts that are not read, as they stand under another key than reasoning_content."""
    turns = (turn for row in rows for column in form for turn in _listed(row.get(column)))
    counts = Counter(key for turn in turns if isinstance(turn, Mapping) for key in _NOT_READ if turn.get(key))
    for key, count in counts.items():
        log.warning(
            "%s: %d turns have thoughts in %r, which is not read; called %r, they reach the chat template",
            where, count, key, _THOUGHTS,
        )  # fmt: skip


def _listed(turns: Any) -> list[Any]:
    return turns if isinstance(turns, list) else []


def _turn(where: str, turn: Any, keys: tuple[str, str]) -> _Turn | None:
    """A turn with its role as system, user or assistant; None for an empty system turn, as some data sets have."""
    if not isinstance(turn, Mapping):
        raise UserError(f"{where} is {kind_of(turn)}; allowed: an object with {keys[0]!r} and {keys[1]!r}")
    role, content = turn.get(keys[0]), turn.get(keys[1])
    if not isinstance(role, str):
        raise UserError(f"{where} has no {keys[0]!r}; allowed: system, user, assistant")
    if role in _TOOLS or any(turn.get(name) for name in _CALLS):
        raise UserError(f"{where} is a tool's turn, or calls a tool; allowed: turns of system, user and assistant")
    if role not in _ROLES:
        raise UserError(f"{where} is of {keys[0]} {role[:40]!r}; allowed: system, user, assistant")
    if keys[1] not in turn:
        raise UserError(f"{where} has no {keys[1]!r}; allowed: an object with {keys[0]!r} and {keys[1]!r}")
    text = _joined(where, content)
    if not text.strip():
        if _ROLES[role] == "system":
            return None
        raise UserError(f"{where} has no text; remove the row")
    message = {"role": _ROLES[role], "content": text}
    if isinstance(thoughts := turn.get(_THOUGHTS), str):
        message[_THOUGHTS] = sound(where, thoughts)
    return _Turn(message, _ROLES[role] == "assistant" and _is_learned(where, turn))


def _is_learned(where: str, turn: Mapping[str, Any]) -> bool:
    """Whether an assistant turn is to be learned, by OpenAI's key `weight` and by Axolotl's key `train`."""
    for key, allowed in (("weight", "0 (not learned), 1 (learned)"), ("train", "false (not learned), true (learned)")):
        if turn.get(key) not in (None, 0, 1):
            raise UserError(f"{where} has {key} {str(turn[key])[:40]!r}; allowed: {allowed}")
    return all(turn.get(key) in (None, 1) for key in ("weight", "train"))


def _joined(where: str, content: Any) -> str:
    """The text of a turn; a text in several parts is joined, and null is an empty text."""
    parts = content if isinstance(content, list) else [content or ""]
    found: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    if not all(isinstance(text, str) for text in found):
        raise UserError(f"{where} holds something other than text; allowed: texts alone")
    return sound(where, "".join(found))
