"""Conversations from the columns that people keep them in.

    messages                        {"role", "content"} of system, user and assistant, any number of turns
    conversations                   {"from", "value"}, as ShareGPT has them
    prompt, completion              texts or messages; only the completion is learned
    instruction, input, output      as Alpaca has them
    text                            one text, all of it learned, without a template

If a file has the columns of several of these forms, the first form is read.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from configs.errors import UserError
from problems.tasks.readers.objects import Row
from problems.tasks.templates import Message

_ROLES = {
    "system": "system", "developer": "system", "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "chatgpt": "assistant", "bot": "assistant",
}  # fmt: skip
_TOOLS = {
    "tool", "function", "ipython", "function_call", "function_response", "tool_call", "tool_response", "observation",
}  # fmt: skip
_CALLS = ("tool_calls", "function_call", "tool_call_id")
_THOUGHTS = "reasoning_content"


@dataclass(frozen=True)
class Chat:
    """A conversation. Assistant turns are learned, except those before message number `learned` (counted from 0), and
    except a first message, which answers nothing.

    `text`: a plain text instead of messages. `where`: option, file and row, with which a message about it begins.
    """

    where: str
    messages: tuple[Message, ...] = ()
    learned: int = 0
    text: str | None = None

    @property
    def last(self) -> int:
        """The number of the last assistant turn."""
        return max(i for i, message in enumerate(self.messages) if message["role"] == "assistant")

    @property
    def source(self) -> str:
        """The messages before the last answer, as JSON; for a plain text, the text itself."""
        return self.text if self.text is not None else json.dumps(self.messages[: self.last], ensure_ascii=False)


def form_of(where: str, rows: Sequence[Row]) -> tuple[str, ...]:
    """The columns from which the rows of a file are read.

    Raises UserError, which lists the file's columns, if they fit no form.
    """
    known = dict.fromkeys(name for row in rows for name, value in row.items() if value is not None)
    for form in _FORMS:
        if all(name in known for name in form if name not in _OPTIONAL):
            return tuple(name for name in form if name in known)
    raise UserError(
        f"{where} has no conversations; allowed: the columns messages, conversations, prompt and completion, "
        f"instruction and output, or text; it has: {', '.join(list(known)[:20]) or 'none'}"
    )


def chat_of(where: str, row: Row, form: tuple[str, ...]) -> Chat:
    """The conversation of a row. Raises UserError, beginning with `where`, for one that cannot be learned from."""
    chat = _FORMS[next(known for known in _FORMS if known[0] == form[0])](where, row)
    if chat.text is None:
        _refuse_unlearned(where, chat)
    return chat


def _refuse_unlearned(where: str, chat: Chat) -> None:
    roles = [message["role"] for message in chat.messages]
    if "assistant" not in roles[max(chat.learned, 1) :]:
        raise UserError(f"{where}: no assistant turn after a user's, so nothing can be learned; remove the row")


def _messages(where: str, row: Row) -> Chat:
    return Chat(where, _turns(where, "messages", row.get("messages"), ("role", "content")))


def _conversations(where: str, row: Row) -> Chat:
    turns = row.get("conversations")
    first = turns[0] if isinstance(turns, list) and turns and isinstance(turns[0], Mapping) else {}
    keys = ("role", "content") if first.get("role") is not None else ("from", "value")
    return Chat(where, _turns(where, "conversations", turns, keys))


def _completion(where: str, row: Row) -> Chat:
    given, answer = row.get("prompt"), row.get("completion")
    before = _one_or_more(where, "prompt", given, "user")
    return Chat(where, (*before, *_one_or_more(where, "completion", answer, "assistant")), len(before))


def _instruction(where: str, row: Row) -> Chat:
    task, more = _filled(where, "instruction", row.get("instruction")), row.get("input")
    if more is not None and not isinstance(more, str):
        raise UserError(f"{where}: column 'input' holds {_kind(more)}; allowed: a text")
    question = _sound(where, f"{task}\n\n{more}") if more and more.strip() else task
    answer = _filled(where, "output", row.get("output"))
    return Chat(where, ({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def _text(where: str, row: Row) -> Chat:
    return Chat(where, text=_filled(where, "text", row.get("text")))


_FORMS: dict[tuple[str, ...], Callable[[str, Row], Chat]] = {
    ("messages",): _messages,
    ("conversations",): _conversations,
    ("prompt", "completion"): _completion,
    ("instruction", "input", "output"): _instruction,
    ("text",): _text,
}
_OPTIONAL = {"input"}


def _one_or_more(where: str, column: str, value: Any, role: str) -> tuple[Message, ...]:
    """The turns of a column that holds messages, or one text, which is a turn of this role."""
    if isinstance(value, list):
        return _turns(where, column, value, ("role", "content"))
    return ({"role": role, "content": _filled(where, column, value)},)


def _turns(where: str, column: str, turns: Any, keys: tuple[str, str]) -> tuple[Message, ...]:
    if not isinstance(turns, list) or not turns:
        raise UserError(f"{where}: column {column!r} holds {_kind(turns)}; allowed: a list of turns")
    found = (_turn(f"{where}: turn {number} of {column!r}", turn, keys) for number, turn in enumerate(turns, 1))
    return tuple(turn for turn in found if turn is not None)


def _turn(where: str, turn: Any, keys: tuple[str, str]) -> Message | None:
    """A turn with its role as system, user or assistant; None for an empty system turn, as some data sets have."""
    if not isinstance(turn, Mapping):
        raise UserError(f"{where} is {_kind(turn)}; allowed: an object with {keys[0]!r} and {keys[1]!r}")
    role, content = turn.get(keys[0]), turn.get(keys[1])
    if not isinstance(role, str):
        raise UserError(f"{where} has no {keys[0]!r}; allowed: system, user, assistant")
    if role in _TOOLS or any(turn.get(name) for name in _CALLS):
        raise UserError(f"{where} is a tool's turn, or calls a tool; allowed: turns of system, user and assistant")
    if role not in _ROLES:
        raise UserError(f"{where} is of {keys[0]} {role[:40]!r}; allowed: system, user, assistant")
    text = _joined(where, content)
    if not text.strip():
        if _ROLES[role] == "system":
            return None
        raise UserError(f"{where} has no text; remove the row")
    thoughts = turn.get(_THOUGHTS)
    return {"role": _ROLES[role], "content": text} | ({_THOUGHTS: thoughts} if isinstance(thoughts, str) else {})


def _joined(where: str, content: Any) -> str:
    """The text of a turn; a text in several parts is joined, and null is an empty text."""
    parts = content if isinstance(content, list) else [content or ""]
    found: list[Any] = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    if not all(isinstance(text, str) for text in found):
        raise UserError(f"{where} holds something other than text; allowed: texts alone")
    return _sound(where, "".join(found))


def _filled(where: str, column: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        kind = "" if value is None or isinstance(value, str) else f", but {_kind(value)}"
        raise UserError(f"{where}: column {column!r} has no text{kind}")
    return _sound(f"{where}: column {column!r}", value)


def _sound(where: str, text: str) -> str:
    """The text. Raises UserError for a lone surrogate (half a character): JSON can escape it, UTF-8 cannot encode
    it."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(
            f"{where} holds a broken character (half of a surrogate pair, {text[error.start]!a}); remove the row"
        ) from None
    return text


def _kind(value: Any) -> str:
    """What stands in a cell, in words."""
    if value is None or value == []:
        return "nothing"
    return {"dict": "an object", "list": "a list", "str": "a text", "bool": "true or false"}.get(
        type(value).__name__, "a number"
    )
