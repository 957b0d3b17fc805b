"""Evaluation of a generation task: decode the evaluation split, keep the texts in the run folder, score them."""

from collections.abc import Sequence
from typing import Any

from engine.disk.files import write_text
from engine.run.context import Context
from engine.terminal.bar import Bar
from problems.tasks.decoding import decode
from problems.tasks.generation import Generation, cut_prompt, prompt


def generate_and_score(model: Any, run: Context) -> dict[str, float]:
    """The official metrics of what `model` writes for the evaluation rows; predictions.txt and references.txt as
    --score reads them.

    Raises Interrupted between two batches when a signal asked to stop.
    """
    task, config, folder = run.task, run.config, run.folder
    assert isinstance(task, Generation)
    (rows,) = run.data.evaluation.values()
    prompts = [cut_prompt(prompt(run.tokenizer, source), config.task.max_length) for source in rows["source"]]
    with Bar("decode", len(prompts)) as bar:

        def after_batch(done: int) -> None:
            bar.step(done)
            run.stop.check()

        texts = decode(model, run.tokenizer, prompts, config.decode, run.compute, after_batch)
    write_text(folder.predictions, "".join(f"{text}\n" for text in texts))
    write_text(folder.references, in_groups(rows["references"]))
    return task.score_texts(texts, rows)


def in_groups(references: Sequence[Sequence[str]]) -> str:
    """References one a line, a blank line between those of two records: the E2E script's format."""
    groups = ["".join(f"{' '.join(text.split())}\n" for text in found) for found in references]
    return "\n".join(groups)
