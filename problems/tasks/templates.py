"""Puts a conversation through a chat template: which tokens the model reads, and which of them it learns.

    labels_t = id_t where token t belongs to an answer, else -100

A template may enclose each answer in `{% generation %}` marks. Without marks, the conversation is rendered up to an
assistant's turn, with the prompt for an answer, and again including the turn: what the second text adds to the first
is the answer. So the model learns to continue the very text that it is given when it is used. The token that ends the
turn is learned, too.
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension
from transformers import PreTrainedTokenizerBase

from configs.errors import UserError

IGNORED = -100
_MARKS, _COMMENT = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}"), re.compile(r"\{#.*?#\}", re.S)
_PROBE = [{"role": "user", "content": "question"}, {"role": "assistant", "content": "answer"}]
_MISMATCH = "writes the beginning of a conversation in another way when more turns follow"
_TORN = "is used with a tokenizer that adds tokens to each piece of a conversation"

Message = dict[str, str]


class RowRefused(ValueError):
    """A template refuses a conversation; the message is the template's own."""


class TemplateRefused(ValueError):
    """A template does not show which tokens belong to an answer.

    The message begins with a verb; `refusal` puts the template's name before it.
    """


class Template:
    """The chat template of a tokenizer.

    `marked`: whether the template itself marks the answers. `end`: the token with which it ends an answer, None where
    that is plain text. It is often not the tokenizer's end of text: Gemma's is <end_of_turn>.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        text = _COMMENT.sub("", template_of(tokenizer) or "")
        self.marked = bool(_MARKS.search(text)) and tokenizer.is_fast
        self.end = self._end()

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer: the end of text, and the template's end of a turn."""
        return list(dict.fromkeys([end_of_text(self.tokenizer), *([] if self.end is None else [self.end])]))

    @property
    def words(self) -> str:
        """A warning for the user, to be shown behind the template's name; empty: there is nothing to warn of."""
        return "" if self.end is not None else " (it ends an answer with plain text: the model does not learn to stop)"

    def render(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """The conversation as one text; with `prompt` up to where the assistant begins to write. Raises RowRefused."""
        return str(self._applied(messages, add_generation_prompt=prompt, tokenize=False))

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """The tokens of the conversation, which an answer continues. Raises RowRefused."""
        return self.ids(self.render(messages, prompt=True))

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without those that the tokenizer would add."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        return found

    def labelled(self, messages: Sequence[Message], learned: int = 0) -> tuple[list[int], list[int]]:
        """Token ids of the conversation and their labels; assistant turns before message `learned` have no labels.

        Raises RowRefused, and TemplateRefused if the template does not show which tokens belong to an answer.
        """
        ids, in_answer = (self._by_marks if self.marked else self._by_prefixes)(messages, learned)
        in_answer[:1] = [False]  # no token predicts the first one
        return ids, [token if is_answer else IGNORED for token, is_answer in zip(ids, in_answer, strict=True)]

    def _by_marks(self, messages: Sequence[Message], learned: int) -> tuple[list[int], list[bool]]:
        """Token ids, and whether each belongs to an answer to learn, by the template's own marks."""
        found = self._applied(messages, return_dict=True, return_assistant_tokens_mask=True)
        ids, in_answer = list(found["input_ids"]), [bool(x) for x in found["assistant_masks"]]
        starts = [i for i, is_answer in enumerate(in_answer) if is_answer and not (i and in_answer[i - 1])]
        # If the assistant speaks first, that turn is read, not learned: there is no prompt that it answers.
        given = sum(message["role"] == "assistant" for message in messages[: max(learned, 1)])
        first = starts[given] if given < len(starts) else len(in_answer)
        in_answer[:first] = [False] * first
        # Some templates leave the end of the turn outside their marks: the model would never learn to stop.
        return ids, [x or (i > first and in_answer[i - 1] and ids[i] == self.end) for i, x in enumerate(in_answer)]

    def _by_prefixes(self, messages: Sequence[Message], learned: int) -> tuple[list[int], list[bool]]:
        """As `_by_marks`, but by what each answer adds to the text before it. Raises TemplateRefused."""
        whole, cuts = self.render(messages), [0]
        for number, message in enumerate(messages):
            if message["role"] != "assistant" or number < max(learned, 1):
                continue
            before = self.render(messages[:number], prompt=True)
            after = self.render(messages[: number + 1])
            if not (after.startswith(before) and whole.startswith(after)):
                raise TemplateRefused(_MISMATCH)
            cuts += [len(before), len(after)]
        pieces = self._pieces(whole, [*cuts, len(whole)])
        in_answer = [number % 2 == 1 for number, piece in enumerate(pieces) for _ in piece]
        return [token for piece in pieces for token in piece], in_answer

    def _pieces(self, whole: str, cuts: Sequence[int]) -> list[list[int]]:
        """The tokens of each piece of a text that is cut at `cuts`.

        They are the tokens of the whole text, unless a token crosses a cut, as may happen if an answer begins with a
        line break. Then each piece is tokenised by itself, as the prompt is when the model is used. Raises
        TemplateRefused for a tokenizer that adds tokens to each piece.
        """
        ids = self.ids(whole)
        heads = [*(self.ids(whole[:cut]) for cut in cuts[:-1]), ids]
        if all(ids[: len(head)] == head for head in heads):
            return [ids[len(a) : len(b)] for a, b in pairwise(heads)]
        pieces = [self.ids(whole[a:b]) for a, b in pairwise(cuts)]
        joined = [token for piece in pieces for token in piece]
        if self.tokenizer.decode(joined) != self.tokenizer.decode(ids):
            raise TemplateRefused(_TORN)
        return pieces

    def _end(self) -> int | None:
        """The first special or added token that the template writes behind an answer; None if it writes none."""
        try:
            before, whole = self.render(_PROBE[:1], prompt=True), self.render(_PROBE)
        except RowRefused:
            return None
        answer = whole[len(before) :] if whole.startswith(before) else whole
        after = answer.rpartition(_PROBE[1]["content"])[2]
        added = {*self.tokenizer.get_added_vocab().values(), *self.tokenizer.all_special_ids}
        return next((token for token in self.ids(after) if token in added), None)

    def _applied(self, messages: Sequence[Message], **options: Any) -> Any:
        try:
            return self.tokenizer.apply_chat_template(list(messages), **options)
        except (TemplateError, TypeError) as error:  # TypeError: the template joins a text and a missing value
            raise RowRefused(" ".join(str(error).split()) or type(error).__name__) from error


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a text. Raises UserError for a tokenizer without one."""
    if tokenizer.eos_token_id is None:
        raise UserError(
            "--model.name: its tokenizer has no end-of-text token; generation needs a causal model, whose "
            "tokenizer has one"
        )
    return int(tokenizer.eos_token_id)


def template_of(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The tokenizer's chat template; of several the default one; None where it has none."""
    found = tokenizer.chat_template
    return found.get("default") if isinstance(found, dict) else found


def take_template(tokenizer: PreTrainedTokenizerBase, file: str | None) -> None:
    """Gives the tokenizer the template in `file` (task.chat_template). Raises UserError where it is no template."""
    if file is None:
        return
    try:
        text = Path(file).expanduser().read_text(encoding="utf-8")
        _SYNTAX.parse(text)
    except UnicodeDecodeError as error:
        raise UserError(f"--task.chat_template: {file} is not UTF-8 (byte {error.start})") from error
    except OSError as error:
        raise UserError(f"--task.chat_template: {file} cannot be read ({error.strerror})") from error
    except TemplateSyntaxError as error:
        raise UserError(f"--task.chat_template: {file}, line {error.lineno}: {error.message}") from error
    if not text.strip():
        raise UserError(f"--task.chat_template: {file} is empty; allowed: a Jinja template")
    tokenizer.chat_template = text


class _Marks(Extension):
    """Parses the tag `generation`, which transformers adds to Jinja."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own way)

    def parse(self, parser: Any) -> Any:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


_SYNTAX = Environment(extensions=[_Marks, "jinja2.ext.loopcontrols"])


def refusal(
    error: RowRefused | TemplateRefused, where: str, file: str | None, tokenizer: PreTrainedTokenizerBase
) -> UserError:
    """The UserError for a template that refuses a row, or that does not show the answer in it.

    `where`: the beginning of a message about the row. `file`: the template's file; None: the model's own template.
    """
    name = file or f"the model's own ({tokenizer.name_or_path})"
    if isinstance(error, RowRefused):
        return UserError(
            f"{where}: the chat template, {name}, refuses it ({error}); change the row, or give another "
            f"template with --task.chat_template"
        )
    return UserError(
        f"--task.chat_template: {name} {error} ({where}), so that the tokens of an answer are not known; give a "
        f"template that marks them by {{% generation %}}, or one that only appends text for each turn"
    )
