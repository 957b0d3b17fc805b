"""Conversations: the model reads them through its chat template, and learns the assistant's turns."""

import dataclasses
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from datasets import Dataset, NamedSplit
from transformers import PreTrainedTokenizerBase

from autolora.configs.errors import UserError
from autolora.configs.tasks import Chat as Settings
from autolora.problems.tasks.base import Rows
from autolora.problems.tasks.causal import MODEL_INPUTS, OF_TOKENS, Causal
from autolora.problems.tasks.evenly import evenly
from autolora.problems.tasks.labels import IGNORED
from autolora.problems.tasks.readers.chat import Chat
from autolora.problems.tasks.readers.chat_sources import ChatSources
from autolora.problems.tasks.split_names import TRAIN, UNUSED, rows_in_words
from autolora.problems.tasks.template_files import take_template
from autolora.problems.tasks.template_refusals import RowRefused, TemplateRefused, refusal
from autolora.problems.tasks.templates import Message, Template, end_of_text, template_of

log = logging.getLogger("autolora.inputs")


class Chats(Causal):
    """A user's own conversations. A log line says from which columns they are read."""

    config: Settings

    def __init__(self, config: Settings, seed: int) -> None:
        self.config = config
        self._metrics = tuple(config.metrics or OF_TOKENS)
        self.name = config.result_name
        self.sources = ChatSources(config, seed)
        self._through_template = True
        self.evaluation_split = self.sources.split

    def rows(self) -> Rows:
        train, evaluation = self.sources.read()
        self._through_template = train[0].text is None
        # Both may change in `read`: a data set of the hub may have splits of its own.
        self.evaluation_split, self.held_out = self.sources.split, self.sources.held_out
        evaluated = _dataset(evaluation, self.evaluation_split)
        return Rows(_dataset(train, TRAIN), {self.evaluation_split: evaluated})

    def origin(self, split: str | None = None) -> str:
        return self.sources.origin(split)

    def adapt_tokenizer(self, tokenizer: PreTrainedTokenizerBase) -> None:
        take_template(tokenizer, self.config.chat_template)

    def encode(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Dataset:
        """The model's inputs, `source`, `prompt` and `reference` of the last answer, and whether the row was `cut`.

        Leaves out rows without a token to learn, and with task.too_long drop also those beyond max_length.
        """
        file, max_length = self.config.chat_template, self.config.max_length
        template, ends = self._template(rows, tokenizer), self.ends(tokenizer)

        def ids_of(chat: Chat) -> tuple[list[int], list[int]]:
            if chat.text is not None:
                ids = _text_ids(chat.text, tokenizer, ends)
                return ids, [IGNORED, *ids[1:]]
            assert template is not None
            try:
                found = template.labelled(chat.messages, chat.learned)
                # Samples may be written for this prompt later, so a template that refuses it is found out now. For a
                # template without marks, `labelled` has rendered the prompt already.
                if template.marked and chat.last:
                    template.prompt(chat.messages[: chat.last])
                return found
            except (RowRefused, TemplateRefused) as error:
                raise refusal(error, chat.where, file, tokenizer) from error

        def tokens(batch: dict[str, list[Any]]) -> dict[str, Any]:
            encoded: dict[str, list[Any]] = {name: [] for name in (*MODEL_INPUTS, "length", "cut", "reference")}
            for stored in batch["chat"]:
                chat = Chat(**json.loads(stored))
                ids, labels = ids_of(chat)
                encoded["cut"].append(len(ids) > max_length)
                encoded["input_ids"].append(ids[:max_length])
                encoded["attention_mask"].append([1] * len(ids[:max_length]))
                encoded["labels"].append(labels[:max_length])
                encoded["length"].append(len(ids[:max_length]))
                encoded["reference"].append("" if chat.text is not None else chat.messages[chat.last]["content"])
            return encoded

        return self._fitting(rows.map(tokens, batched=True, remove_columns=["chat"]))

    def _template(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> Template | None:
        """The template of the rows; None for plain texts. Raises UserError for conversations without a template."""
        if json.loads(rows[0]["chat"])["text"] is not None:
            if self.config.chat_template:
                log.warning(
                    "--task.chat_template: is not applied, as the rows are whole texts (column text); only the "
                    "tokenizer beside the adapter keeps it"
                )
            return None
        if template_of(tokenizer) is None:
            raise UserError(
                f"--task.chat_template: null is not allowed, as {tokenizer.name_or_path} has no chat template of its "
                f"own; allowed: a file with one, or --model.name of a model that was tuned for chat, as in --config "
                f"chat_smollm2.yaml"
            )
        return Template(tokenizer)

    def _fitting(self, rows: Dataset) -> Dataset:
        """The rows to train or evaluate on; warnings tell how many were cut and dropped, and why.

        Raises UserError where no row is left, except of unused rows.
        """
        cut, most = np.asarray(rows["cut"][:], dtype=bool), self.config.max_length
        answered = np.array([any(label != IGNORED for label in labels) for labels in rows["labels"]])
        drops = self.config.too_long == "drop"
        dropped = ~answered | (cut & drops)
        of_all = rows_in_words(rows)
        if cut.any():
            lost = (cut & dropped).sum()
            emptied = f"; {lost} are dropped, as no token of an answer is left" if lost else ""
            done = "they are dropped (task.too_long drop)" if drops else f"{(cut & ~dropped).sum()} are cut{emptied}"
            log.warning("%d of %s are longer than task.max_length %d: %s", cut.sum(), of_all, most, done)
        if empty := (~answered & ~cut).sum():
            log.warning("%d of %s are dropped, as they have no token of an answer", empty, of_all)
        if rows.split != UNUSED and dropped.all() and not cut.any():
            split = None if rows.split == TRAIN else str(rows.split)
            raise UserError(f"{self.origin(split)}: none of {of_all} has a token of an answer; allowed: rows with one")
        if rows.split != UNUSED and dropped.all():
            raise UserError(
                f"--task.max_length: {most} is not allowed, as none of {of_all} {'fits and ' if drops else ''}has a "
                f"token of an answer; give a larger one"
            )
        return rows.select(np.flatnonzero(~dropped)) if dropped.any() else rows

    def token_metrics(self, loss: float, accuracy: float) -> dict[str, float]:
        found = super().token_metrics(loss, accuracy)
        return {name: found[name] for name in self._metrics}

    def form(self, tokenizer: PreTrainedTokenizerBase) -> str:
        if not self._through_template:
            return "prompt: none, the texts themselves are learned"
        name = self.config.chat_template or "the chat template of the model"
        return f"prompt: {name}{Template(tokenizer).words}"

    def decoded(self, rows: Dataset) -> Dataset:
        """Samples, evenly spread over the rows that were not cut."""
        whole = [bool(last) and not cut for cut, last in zip(rows["cut"], rows["reference"], strict=True)]
        numbers = np.flatnonzero(whole)
        return rows.select(numbers[evenly(len(numbers), self.config.samples)])

    def prompts(self, rows: Dataset, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
        if not len(rows):
            return []
        template = Template(tokenizer)
        return [template.prompt(self.messages(row, tokenizer)) for row in rows]

    def messages(self, row: Mapping[str, Any], tokenizer: PreTrainedTokenizerBase) -> list[Message]:
        found: list[Message] = json.loads(row["prompt"])
        return found

    def ends(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return [end_of_text(tokenizer)] if template_of(tokenizer) is None else Template(tokenizer).ends


def _text_ids(text: str, tokenizer: PreTrainedTokenizerBase, ends: list[int]) -> list[int]:
    """The tokens of a plain text, with the token that begins a text where the tokenizer adds one, and with one that
    ends it. A text that a template has rendered may have its own already; none is then added.

    `ends`: the tokens that end a text or a turn, the tokenizer's end of text first."""
    ids, begin, end = list(tokenizer(text, verbose=False)["input_ids"]), [tokenizer.bos_token_id], ends[:1]
    if ids[:2] == begin * 2:
        ids = ids[1:]
    if ids[-2:] == [*end, *end]:
        return ids[:-1]
    # Templates write a line break behind the last turn.
    ended = ids[-1:] == end or text.rstrip().endswith(tuple(tokenizer.convert_ids_to_tokens(ends)))
    return ids if ended else [*ids, *end]


def _dataset(chats: Sequence[Chat], split: str) -> Dataset:
    columns: dict[str, list[str]] = {
        "chat": [json.dumps(dataclasses.asdict(chat), ensure_ascii=False) for chat in chats],
        "source": [chat.source for chat in chats],
        "prompt": [chat.prompt for chat in chats],
    }
    return Dataset.from_dict(columns, split=NamedSplit(split))
