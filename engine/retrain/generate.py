"""Let the trained language model write texts for the evaluation rows; save and score these texts."""

import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from autolora.engine.disk.files import write_text
from autolora.engine.run.context import Context
from autolora.engine.terminal.bar import Bar
from autolora.problems.tasks.chat import Conversations, conversation
from autolora.problems.tasks.decoding import Written, decode
from autolora.problems.tasks.formats import Conversation

log = logging.getLogger("autolora")


def write_texts(model: Any, run: Context) -> dict[str, float]:
    """Writes predictions.jsonl with the texts of `model`; returns their metrics. Does nothing and returns {} if the
    task asks for no texts.

    Where texts are scored, predictions.txt and references.txt are for `python -m problems.scoring`; else samples.jsonl
    holds them for the report. Raises Interrupted between two batches after a signal.
    """
    task, folder = run.task, run.folder
    assert isinstance(task, Conversations)
    if not run.config.task.writes_texts:
        return {}
    (evaluated,) = run.data.evaluation.values()
    rows = task.decoded(evaluated)
    known, prompts = [conversation(row) for row in rows], task.prompts(rows, run.tokenizer)
    if not prompts:  # rows of whole texts, or all cut to task.max_length
        log.info("samples.jsonl: is not written, as no evaluated row has a whole prompt and answer")
        return {}
    found = _decoded(model, run, prompts, task.ends(run.tokenizer))
    write_text(folder.written, _lines(_rows(run, known, prompts, found)))
    if not task.config.scores_texts:
        samples = (
            {"prompt": one.prompt, "answer": answer.text, "reference": one.references[0]}
            for one, answer in zip(known, found, strict=True)
        )
        write_text(folder.samples, _lines(samples))
        return {}
    texts = [answer.line for answer in found]
    write_text(folder.predictions, "".join(f"{text}\n" for text in texts))
    write_text(folder.references, in_groups([one.references for one in known]))
    return task.score_texts(texts, rows)


def _decoded(model: Any, run: Context, prompts: list[list[int]], ends: list[int]) -> list[Written]:
    with Bar("decode", len(prompts)) as bar:

        def after_batch(done: int) -> None:
            bar.step(done)
            run.stop.check()

        return decode(model, run.tokenizer, prompts, run.config.task.decoding, run.compute, after_batch, ends)


def _rows(
    run: Context, known: list[Conversation], prompts: list[list[int]], found: list[Written]
) -> Iterable[dict[str, Any]]:
    for one, prompt, answer in zip(known, prompts, found, strict=True):
        yield {
            "messages": one.prompt,
            "prompt": run.tokenizer.decode(prompt),
            "prompt_ids": prompt,
            "text": answer.text,
            "token_ids": answer.ids,
        }


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def in_groups(references: Sequence[Sequence[str]]) -> str:
    """The references in the format of the E2E script: one per line, with a blank line between the records."""
    groups = ["".join(f"{' '.join(text.split())}\n" for text in found) for found in references]
    return "\n".join(groups)
