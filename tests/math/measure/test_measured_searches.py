"""What is measured of whole searches: shares that add up for every kind of model, on D_val, of the searched model."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from datasets import Dataset

from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.choose import measurement
from autolora.engine.choose.stage import answer
from autolora.engine.measure.measure import Passes
from autolora.engine.run.context import Context
from autolora.engine.search.search import search
from autolora.engine.search.trajectory import searched_model

pytestmark = pytest.mark.trains

MEASURED = ("--answer.rows", "1000")
CASES: dict[str, tuple[str, tuple[str, ...]]] = {
    "bert": ("bert", ()),
    "parts of a fused layer": ("gpt2", ("--lora.target_modules", "[c_attn.q,c_attn.v]")),
    "llama, bf16": ("llama", ("--precision", "bf16")),
    "sigmoid": ("bert", ("--search.constraint", "sigmoid")),
    "paper's gate": ("bert", ("--search.gate", "paper")),
}


@pytest.mark.parametrize("case", list(CASES))
def test_every_layer_has_shares_that_add_up(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], case: str
) -> None:
    kind, arguments = CASES[case]
    run = run_of(tiny_config(*MEASURED, "--search.steps", "12", *arguments, kind=kind))
    search(run)
    answer(run)
    record = ranks.load(run.folder.ranks)
    evidence = record.evidence
    assert evidence is not None
    assert (evidence.rows, evidence.folds) == (32, 5)
    assert evidence.without == "head alone"
    assert evidence.share_total == pytest.approx(sum(sum(layer.share) for layer in record.layers), rel=1e-6)
    assert evidence.share_total == pytest.approx(sum(x.layer_share or 0.0 for x in record.layers), rel=1e-6)
    # Few steps: the gain is a few thousandths, and bf16 rounds it.
    assert evidence.share_total + evidence.head_share == pytest.approx(
        evidence.fall, rel=0.02, abs=5e-4 if "bf16" in case else 2e-4
    )
    assert [point.at for point in evidence.rank_curve] == [point.at for point in evidence.plain_curve] == [1, 2, 4]
    for layer in record.layers:
        assert len(layer.share) == len(layer.share_standard_error) == len(layer.singular_values) == 4
        assert list(layer.singular_values) == sorted(layer.singular_values, reverse=True)


def test_the_searched_model_is_the_one_that_the_search_left(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config("--lora.modules_to_save", "[pooler]"))
    engine = search(run)
    batch = run.data.collate(run.data.train.__getitems__(list(range(8))))
    model, gates = searched_model(run)
    found = []
    for one, its_gates in ((engine.lora.module, engine.lora.gates), (model, gates)):
        one.eval()
        with torch.no_grad(), its_gates.open(torch.ones(len(gates.names), gates.k)):
            found.append(one(**batch).logits)
    assert torch.equal(*found)


def test_the_answer_is_measured_on_d_val_and_the_head_alone_learns_on_d_tr(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On rows that W was trained on, LoRA and every rank would look better than they are."""

    class Seen(Exception):
        pass

    def seen(run: Context, d_tr: Dataset, passes: Passes) -> Any:
        raise Seen(d_tr["input_ids"][:], passes.rows.data["input_ids"][:])

    run = run_of(tiny_config(*MEASURED, "--search.steps", "2", "--task.validation_share", "0.25"))
    search(run)
    monkeypatch.setattr(measurement, "train_head", seen)
    with pytest.raises(Seen) as found:
        answer(run)
    expected = [run.data.train.select(half)["input_ids"][:] for half in run.halves()]
    assert [len(rows) for rows in expected] == [48, 16]
    assert [sorted(rows) for rows in found.value.args] == [sorted(rows) for rows in expected]
