"""Let the trained language model write texts for the evaluation rows; save and score these texts."""

import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from autolora.engine.disk.files import write_text
from autolora.engine.run.context import Context
from autolora.engine.terminal.bar import Bar
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.decoding import decode
from autolora.problems.tasks.formats import Conversation

log = logging.getLogger("autolora")


def write_texts(model: Any, run: Context) -> dict[str, float]:
    """Writes predictions.jsonl with the texts of `model`; returns their metrics, {} if none are asked for.

    Where texts are scored, predictions.txt and references.txt are for `python -m problems.scoring`; else samples.jsonl
    holds them for the report. Raises Interrupted between two batches after a signal.
    """
    task, folder, tokenizer = run.task, run.folder, run.tokenizer
    assert isinstance(task, Conversations)
    (evaluated,) = run.data.evaluation.values()
    rows = task.decoded(evaluated)
    if not len(rows):
        if task.config.samples:
            log.info("samples.jsonl: is not written, as no evaluated row has a whole prompt and answer")
        return {}
    known, prompts = list(map(Conversation.of, rows)), task.prompts(rows, tokenizer)
    with Bar("decode", len(prompts)) as bar:

        def after_batch(done: int) -> None:
            bar.step(done)
            run.stop.check()

        found = decode(model, tokenizer, prompts, task.config.decoding, task.ends(tokenizer), after_batch)
    written = (
        {"messages": one.prompt, "prompt": tokenizer.decode(prompt), "prompt_ids": prompt, "text": answer.text,
         "token_ids": answer.ids}
        for one, prompt, answer in zip(known, prompts, found, strict=True)
    )  # fmt: skip
    write_text(folder.written, _lines(written))
    if not task.config.scores_texts:
        samples = (
            {"prompt": one.prompt, "answer": answer.text, "reference": one.references[0]}
            for one, answer in zip(known, found, strict=True)
        )
        write_text(folder.samples, _lines(samples))
        return {}
    texts = [" ".join(answer.text.split()) for answer in found]  # as the official scorers read them
    write_text(folder.predictions, "".join(f"{text}\n" for text in texts))
    write_text(folder.references, in_groups([one.references for one in known]))
    return task.score_texts(texts, rows)


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def in_groups(references: Sequence[Sequence[str]]) -> str:
    """The references in the format of the E2E script: one per line, with a blank line between the records."""
    groups = ["".join(f"{' '.join(text.split())}\n" for text in found) for found in references]
    return "\n".join(groups)
