"""Let the trained language model write texts for the evaluation rows; save and score these texts."""

import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from datasets import Dataset

from autolora.engine.disk.files import write_text
from autolora.engine.run.context import Context
from autolora.engine.terminal.bar import Bar
from autolora.problems.tasks.causal import Causal
from autolora.problems.tasks.decoding import Written, decode
from autolora.problems.tasks.generation import Generation

log = logging.getLogger("autolora")


def write_texts(model: Any, run: Context) -> dict[str, float]:
    """Writes predictions.jsonl with the texts of `model`; returns their official metrics. Does nothing and returns {}
    if the task asks for no texts.

    Generation also writes predictions.txt and references.txt, which `python -m problems.scoring` reads. Chat writes
    samples.jsonl, and has no metrics for its texts. Raises Interrupted between two batches after a signal.
    """
    task, folder = run.task, run.folder
    assert isinstance(task, Causal)
    if not run.config.task.writes_texts:
        return {}
    (evaluated,) = run.data.evaluation.values()
    rows = task.decoded(evaluated)
    prompts = task.prompts(rows, run.tokenizer)
    found = _decoded(model, run, prompts, task.ends(run.tokenizer)) if prompts else []
    if found:
        write_text(folder.written, _lines(_rows(run, rows, prompts, found)))
    if not isinstance(task, Generation):
        if found:
            write_text(folder.samples, _lines(_samples(run, rows, found)))
        else:  # rows of whole texts, or all cut to task.max_length
            log.info("samples.jsonl: is not written, as no evaluated row has a whole prompt and answer")
        return {}
    texts = [answer.line for answer in found]
    write_text(folder.predictions, "".join(f"{text}\n" for text in texts))
    write_text(folder.references, in_groups(rows["references"]))
    return task.score_texts(texts, rows)


def _decoded(model: Any, run: Context, prompts: list[list[int]], ends: list[int]) -> list[Written]:
    with Bar("decode", len(prompts)) as bar:

        def after_batch(done: int) -> None:
            bar.step(done)
            run.stop.check()

        return decode(model, run.tokenizer, prompts, run.config.task.decoding, run.compute, after_batch, ends)


def _rows(run: Context, rows: Dataset, prompts: list[list[int]], found: list[Written]) -> Iterable[dict[str, Any]]:
    task = run.task
    assert isinstance(task, Causal)
    for row, prompt, answer in zip(rows, prompts, found, strict=True):
        messages = task.messages(row, run.tokenizer)
        yield {
            **({"source": row["source"]} if messages is None else {"messages": messages}),
            "prompt": run.tokenizer.decode(prompt),
            "prompt_ids": prompt,
            "text": answer.text,
            "token_ids": answer.ids,
        }


def _samples(run: Context, rows: Dataset, found: list[Written]) -> Iterable[dict[str, Any]]:
    assert isinstance(run.task, Causal)
    for row, answer in zip(rows, found, strict=True):
        yield {
            "prompt": run.task.messages(row, run.tokenizer),
            "answer": answer.text,
            "reference": row["reference"],
        }


def _lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def in_groups(references: Sequence[Sequence[str]]) -> str:
    """The references in the format of the E2E script: one per line, with a blank line between the records."""
    groups = ["".join(f"{' '.join(text.split())}\n" for text in found) for found in references]
    return "\n".join(groups)
