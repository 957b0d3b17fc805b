"""Evaluation of a generation task: decode the evaluation split, keep the texts in the run folder, score them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from configs.schema import RunConfig
from engine.disk.files import write_text
from engine.run.folder import RunFolder
from engine.run.interrupt import StopRequest
from engine.terminal.bar import Bar
from problems.machine.compute import Compute
from problems.tasks.decoding import decode
from problems.tasks.generation import Generation, cut_prompt, prompt


def generate_and_score(
    model: Any,
    task: Generation,
    rows: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    config: RunConfig,
    compute: Compute,
    folder: RunFolder,
    stop: StopRequest,
) -> dict[str, float]:
    """The official metrics of what `model` writes for `rows`; predictions.txt and references.txt as --score reads.

    Raises Interrupted between two batches when a stop was asked for.
    """
    prompts = [cut_prompt(prompt(tokenizer, source), config.task.max_length) for source in rows["source"]]
    with Bar("decode", len(prompts)) as bar:

        def after_batch(done: int) -> None:
            bar.step(done)
            stop.check()

        texts = decode(model, tokenizer, prompts, config.decode, compute, after_batch)
    write_text(folder.predictions, "".join(f"{text}\n" for text in texts))
    write_text(folder.references, in_groups(rows["references"]))
    return task.score_texts(texts, rows)


def in_groups(references: Sequence[Sequence[str]]) -> str:
    """References one a line, a blank line between those of two records: the E2E script's format."""
    groups = ["".join(f"{' '.join(text.split())}\n" for text in found) for found in references]
    return "\n".join(groups)
