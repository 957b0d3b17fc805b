"""Evaluate a trained model as it was written: its metrics, what it predicts, and the texts that a
language model writes."""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from autolora.engine.disk.files import write_json_lines, write_text
from autolora.engine.disk.tables import write_csv, write_parquet
from autolora.engine.retrain.judge import Judgement, judge
from autolora.engine.world import World
from autolora.problems.rows import Rows, Splits
from autolora.problems.tasks.chat import Conversations
from autolora.problems.tasks.decoding import decode
from autolora.problems.tasks.formats import Conversation
from autolora.problems.tasks.scoring import Scoring


@dataclass(frozen=True)
class WrittenTexts:
    """What a language model wrote.

    `written`: prompt, raw text and token ids of each. `samples`: answers beside their references,
    where texts are not scored; else `predictions` and `references` are for
    `python -m problems.scoring`, and `metrics` are theirs.
    """

    written: Sequence[Mapping[str, Any]]
    samples: Sequence[Mapping[str, Any]] = ()
    predictions: Sequence[str] = ()
    references: Sequence[Sequence[str]] = ()
    metrics: Mapping[str, float] | None = None

    def save(self, root: Path) -> None:
        """Writes predictions.jsonl, and samples.jsonl or predictions.txt and references.txt."""
        write_json_lines(root / "predictions.jsonl", self.written)
        if self.metrics is None:
            write_json_lines(root / "samples.jsonl", self.samples)
            return
        write_text(root / "predictions.txt", "".join(f"{text}\n" for text in self.predictions))
        # In the format of the E2E script: one reference per line, with a blank line between the
        # records.
        groups = [
            "".join(f"{' '.join(text.split())}\n" for text in group) for group in self.references
        ]
        write_text(root / "references.txt", "\n".join(groups))


@dataclass(frozen=True)
class Evaluated:
    """A finished evaluation. `metrics`: those that were asked for first, and the mean `loss`;
    `texts`: None if none were asked for; `standard_error`: of an accuracy."""

    judgement: Judgement
    metrics: Mapping[str, float]
    standard_error: float | None
    texts: WrittenTexts | None
    seconds: float

    def save(self, root: Path) -> None:
        """Writes the texts, predictions.csv and row_losses.parquet."""
        if self.texts is not None:
            self.texts.save(root)
        if self.judgement.predicted_rows is not None:
            write_csv(root / "predictions.csv", self.judgement.predicted_rows)
        if self.judgement.row_losses is not None:
            write_parquet(root / "row_losses.parquet", self.judgement.row_losses)


def evaluate(
    model: nn.Module,
    splits: Splits[Rows],
    scoring: Scoring,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
    *,
    batch: int,
) -> Evaluated:
    """Evaluates a model; of several processes only the first lets it write texts. Raises
    Interrupted when a signal asked to stop."""
    assert scoring.task is not None
    began = time.perf_counter()
    judgement = judge(model, splits, scoring, world, batch=batch)
    seconds = time.perf_counter() - began
    texts = None
    if world.processes.first:
        world.begin()
        if isinstance(scoring.task, Conversations):
            (evaluated,) = splits.evaluation.values()
            texts = write_texts(model, evaluated, scoring.task, tokenizer, world)
    of_texts = {} if texts is None or texts.metrics is None else texts.metrics
    metrics = scoring.task.ordered({**of_texts, **judgement.metrics})
    error = _standard_error(splits, metrics)
    return Evaluated(judgement, metrics, error, texts, seconds)


def write_texts(
    model: Any,
    evaluated: Rows,
    task: Conversations,
    tokenizer: PreTrainedTokenizerBase,
    world: World,
) -> WrittenTexts | None:
    """The texts of a language model; None if none are asked for. Raises Interrupted between two
    batches after a signal."""
    rows = task.decoded(evaluated.examples)
    if not len(rows):
        return None
    asked = list(map(Conversation.of, rows))
    prompts = task.prompts(rows, tokenizer)
    with world.progress("decode", len(prompts)) as bar:

        def after_batch(done: int) -> None:
            bar.step(done)
            world.stop.check()

        answers = decode(
            model, tokenizer, prompts, task.config.decoding, task.ends(tokenizer), after_batch
        )
    written = [
        {
            "messages": conversation.prompt,
            "prompt": tokenizer.decode(prompt),
            "prompt_ids": prompt,
            "text": answer.text,
            "token_ids": answer.ids,
        }
        for conversation, prompt, answer in zip(asked, prompts, answers, strict=True)
    ]
    if not task.config.scores_texts:
        samples = [
            {
                "prompt": conversation.prompt,
                "answer": answer.text,
                "reference": conversation.references[0],
            }
            for conversation, answer in zip(asked, answers, strict=True)
        ]
        return WrittenTexts(written, samples)
    # as the official scorers read them
    texts = [" ".join(answer.text.split()) for answer in answers]
    references = [conversation.references for conversation in asked]
    return WrittenTexts(written, (), texts, references, task.score_texts(texts, rows))


def _standard_error(splits: Splits[Rows], metrics: Mapping[str, float]) -> float | None:
    """The standard error of an accuracy, over inputs, as rows of one input depend on each other;
    None for others.

    This is the estimate of Agresti and Coull (1998): it adds two right and two wrong rows, so that
    the accuracy of a few rows that are all right does not look certain.
    """
    if next(iter(metrics)) != "accuracy":
        return None
    inputs = sum(len(set(rows.groups.tolist())) for rows in splits.evaluation.values())
    share = (metrics["accuracy"] * inputs + 2) / (inputs + 4)
    return math.sqrt(share * (1 - share) / (inputs + 4))
