"""A conversation through a chat template: which tokens the model reads, and which of them it
learns.

    labels_t = id_t where token t belongs to an answer, else -100

The prefix rule: the conversation is written up to an answer, with the prompt for it, and again with
the answer. If the whole conversation begins with both texts, what the second adds to the first is
the answer, with the token that ends it. So the model learns to continue the very text that it is
given when it is used. A template that encloses answers in `{% generation %}` marks says so itself.
Where a template without marks breaks the rule, as those that take earlier thoughts out do, TRL's
training template for it has marks.
"""

import re
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from copy import copy
from datetime import datetime
from functools import cached_property
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.problems.tasks.losses import IGNORED

PLAIN = "plain"
"""The name of the template of LoRA's recipe for GPT-2: the source, the token that begins a text (or
ends one), the answer, the token that ends a text."""
_PLAIN = (
    "{% for m in messages %}{% if m['role'] == 'assistant' %}{{ ' ' + m['content'] | trim + "
    "eos_token }}{% else %}{{ m['content'] + (bos_token or eos_token) }}{% endif %}{% endfor "
    "%}"
)
_MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_DATE = re.compile(r"""strftime_now\((['"])(.*?)\1\)""")
_DAY = datetime(2024, 7, 26, 12)
# Words that no template writes by itself.
_PROBE = [{"role": "user", "content": "quagmire"}, {"role": "assistant", "content": "zeppelin"}]

Message = Mapping[str, Any]
Messages = Sequence[Message]


class Template:
    """The chat template of a run, which its tokenizer then has, too.

    `end`: the token with which it ends an answer; None where that is plain text. It is often not
    the tokenizer's end of text: Gemma's is <end_of_turn>.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, choice: str | None = None) -> None:
        """`choice`: PLAIN or a file; None: the tokenizer's own. Raises UserError where there is
        none, and for one that leaves out the words of a turn, as those that read lists of parts
        do."""
        self.tokenizer = tokenizer
        own: Any = tokenizer.chat_template
        text = own.get("default") if isinstance(own, dict) else own
        if choice is not None:
            text = (
                _PLAIN if choice == PLAIN else Path(choice).expanduser().read_text(encoding="utf-8")
            )
        if text is None:
            raise UserError(
                f"--task.chat_template: null is not allowed, as {tokenizer.name_or_path} has "
                f"no chat template; allowed: {PLAIN}, a file with one, or --model.name of a "
                "model that was tuned for chat"
            )
        self._undated = text
        tokenizer.chat_template = _with_fixed_date(text)
        self.marked = bool(_MARKS.search(text))
        _, answer, after = self.render(_PROBE).rpartition(_PROBE[1]["content"])
        if not answer:
            raise UserError(
                "--task.chat_template: the template leaves out the text of a turn; give another"
            )
        special = {*tokenizer.get_added_vocab().values(), *tokenizer.all_special_ids}
        self.end = next((token for token in self.ids(after) if token in special), None)

    @property
    def ends(self) -> list[int]:
        """The tokens that end an answer: the end of text, and the template's end of a turn."""
        found = [end_of_text(self.tokenizer), self.end]
        return [token for token in dict.fromkeys(found) if token is not None]

    def render(self, messages: Messages, **options: Any) -> str:
        """The conversation as one text; `options`: those of apply_chat_template."""
        turns: Any = list(messages)
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, **options))

    def prompt(self, messages: Messages, **options: Any) -> list[int]:
        """The tokens of the conversation, which an answer continues."""
        return self.ids(self.render(messages, add_generation_prompt=True, **options))

    def ids(self, text: str) -> list[int]:
        """The tokens of a text, without those that the tokenizer would add."""
        found: list[int] = self.tokenizer(text, add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        return found

    def labelled(
        self, messages: Messages, learned: Sequence[int], **options: Any
    ) -> tuple[list[int], list[int]]:
        """Token ids of the conversation and their labels, on the messages whose numbers are in
        `learned`.

        Raises ValueError if neither the template nor one of TRL's shows which tokens these are.
        """
        whole = self.render(messages, **options)
        cuts = None if self.marked else self._cuts(whole, messages, learned, options)
        if cuts is None:
            ids, is_learned = self._by_marks(messages, learned, options)
        else:
            found: Any = self.tokenizer(
                whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False
            )
            ids = found["input_ids"]
            # A token belongs to the piece in which it ends.
            is_learned = [bisect_left(cuts, end) % 2 == 1 for _, end in found["offset_mapping"]]
        is_learned[:1] = [False]  # no token predicts the first one
        return ids, [
            token if label else IGNORED for token, label in zip(ids, is_learned, strict=True)
        ]

    def _cuts(
        self, whole: str, messages: Messages, learned: Sequence[int], options: Mapping[str, Any]
    ) -> list[int] | None:
        """Where each answer begins and ends in the whole text; None where the prefix rule is
        broken."""
        cuts: list[int] = []
        for number in learned:
            before = self.render(messages[:number], add_generation_prompt=True, **options)
            after = self.render(messages[: number + 1], **options)
            if not (after.startswith(before) and whole.startswith(after)):
                return None
            cuts += [len(before), len(after)]
        return cuts

    def _by_marks(
        self, messages: Messages, learned: Sequence[int], options: Mapping[str, Any]
    ) -> tuple[list[int], list[bool]]:
        """Token ids, and whether each is learned, by the marks of the template or of TRL's for
        it."""
        turns: Any = list(messages)
        found: Any = self.tokenizer.apply_chat_template(
            turns,
            chat_template=self._with_marks,
            return_dict=True,
            return_assistant_tokens_mask=True,
            **options,
        )
        ids = found["input_ids"]
        marks = found["assistant_masks"]
        runs = [list(run) for marked, run in groupby(range(len(ids)), marks.__getitem__) if marked]
        answers = [number for number, turn in enumerate(messages) if turn["role"] == "assistant"]
        if len(learned) < len(answers):
            if len(runs) != len(answers):
                raise ValueError(
                    "the template does not show to which of several answers its marks belong"
                )
            runs = [run for number, run in zip(answers, runs, strict=True) if number in learned]
        # Some templates leave the end of the turn outside their marks: the model would never learn
        # to stop.
        ends = [run[-1] + 1 for run in runs if ids[run[-1] + 1 : run[-1] + 2] == [self.end]]
        places = {*ends, *chain.from_iterable(runs)}
        return ids, [place in places for place in range(len(ids))]

    @cached_property
    def _with_marks(self) -> str:
        if self.marked:
            return str(self.tokenizer.chat_template)
        original = copy(self.tokenizer)
        original.chat_template = self._undated
        try:
            from trl.chat_template_utils import get_training_chat_template

            return _with_fixed_date(str(get_training_chat_template(original)))
        except (ImportError, ValueError) as error:
            raise ValueError(
                "the template does not write a conversation as its prompt and then the "
                "answer; install TRL, which has training templates for many models, or give a "
                "template that marks answers by {% generation %} in --task.chat_template"
            ) from error


def _with_fixed_date(template: str) -> str:
    """The template with one date in place of the day's: rows would otherwise change from one day to
    the next, and the prompt would not be the one that was learned. It is the date of Llama's
    templates where no date is known."""
    return _DATE.sub(lambda found: repr(_DAY.strftime(found[2])), template)


def end_of_text(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token that ends a text. Raises UserError for a tokenizer without one."""
    if tokenizer.eos_token_id is None:
        raise UserError(
            "--model.name: its tokenizer has no end-of-text token, with which a language "
            "model stops"
        )
    return int(tokenizer.eos_token_id)
