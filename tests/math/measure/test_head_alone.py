"""The head alone: trained without LoRA, on a base that stays as it is."""

from collections.abc import Callable

import torch
from transformers import set_seed

from autolora.configs.schema import RunConfig
from autolora.engine.choose.measurement import passes_over, train_head
from autolora.engine.measure.likelihood import Rows
from autolora.engine.measure.measure import Passes
from autolora.engine.run.context import Context
from autolora.problems.data import Batches
from autolora.problems.models.layers import head_alone


def halves_of(run: Context) -> tuple[Passes, list[int]]:
    d_tr, d_val = run.halves()
    return passes_over(run, Rows.of(run.data.train.select(d_val), run.data.collate)), d_tr.tolist()


def test_each_step_is_adamws_on_its_own_batch(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config("--search.steps", "20", "--search.learning_rate", "0.03", dropout=0.0))
    passes, d_tr = halves_of(run)
    rows, search = run.data.train.select(d_tr), run.config.search
    found, _ = train_head(run, rows, passes)
    set_seed(run.config.seed)
    model, weights = head_alone(run.base())
    model.train()
    optimizer = torch.optim.AdamW(weights, lr=search.learning_rate, weight_decay=search.weight_decay)
    batches = Batches(rows, search.batch_size, run.data.collate, run.config.seed, torch.device("cpu"))
    start = model.classifier.weight.detach().clone()
    for number in range(20):
        optimizer.zero_grad()
        model(**batches[number].parts[0][0]).loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, search.gradient_clipping)
        optimizer.step()
    assert (found.classifier.weight - start).abs().max() > 1e-2, "D_val's loss has fallen, so that the last are kept"
    torch.testing.assert_close(found.classifier.weight, model.classifier.weight, rtol=0, atol=1e-5)


def test_the_head_of_accumulated_batches_is_that_of_the_large_batch(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    heads = []
    for batch, parts in ((16, 1), (8, 2)):  # ten rows: one batch, or parts of eight and of two
        sizes = ("--search.batch_size", str(batch), "--search.gradient_accumulation", str(parts))
        run = run_of(tiny_config("--search.steps", "4", "--task.train_rows", "20", *sizes, dropout=0.0))
        passes, d_tr = halves_of(run)
        heads.append(train_head(run, run.data.train.select(d_tr), passes)[0].classifier.weight)
    torch.testing.assert_close(*heads, rtol=0, atol=1e-4)
