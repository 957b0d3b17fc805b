"""GPT-2's query and value with ranks of their own, through the whole program: search, every method, plain PEFT."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.disk.files import write_json
from autolora.engine.export.adapter import save_adapter
from autolora.engine.export.lora_config import adapter_config, attach_ranks
from autolora.engine.export.names import ADAPTER_WEIGHTS
from autolora.engine.retrain.components import Components
from autolora.engine.retrain.from_search import start_from_search
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.search.engine import SearchEngine
from autolora.engine.search.hook import SearchHook
from autolora.engine.search.stage import build_search, search
from autolora.engine.stages import run_stages
from autolora.problems.hypergradients import HYPERGRADIENTS
from autolora.problems.models.attach import ADAPTER
from tests.helpers.searching import find_ranks, kept_mask

WIDTH, K = 32, 4
LAYERS = [f"transformer.h.{i}.attn.c_attn" for i in (0, 1)]
NAMES = [f"{layer}.{part}" for layer in LAYERS for part in "qv"]
PARTS = ("--lora.target_modules", "[c_attn.q,c_attn.v]")
LARGE = (*PARTS, "--search.learning_rate", "5e-2", "--search.weight_decay", "0.3", "--lora.dropout", "0.1")


def blocks(b: Tensor, ranks_of_parts: dict[str, int]) -> tuple[Tensor, Tensor]:
    """All of B that lies in the blocks of its parts, all that does not."""
    inside = torch.zeros_like(b, dtype=torch.bool)
    start = 0
    for part, rank in ranks_of_parts.items():
        row = "qkv".index(part) * WIDTH
        inside[row : row + WIDTH, start : start + rank] = True
        start += rank
    assert start == b.shape[1]
    return b[inside], b[~inside]


def check_sparse(weights: dict[str, Tensor], ranks_of: dict[str, int]) -> None:
    """Every B of `weights` has numbers in the blocks of `ranks_of` [group -> rank] and exact zeros elsewhere."""
    found = {name: value for name, value in weights.items() if ".lora_B." in name}
    assert {name.removeprefix("base_model.model.").split(".lora_B")[0] for name in found} == {n[:-2] for n in ranks_of}
    for name, b in found.items():
        own = {group[-1]: rank for group, rank in sorted(ranks_of.items()) if f"{group[:-2]}.lora_B" in name}
        inside, outside = blocks(b, own)
        assert inside.ne(0).all()
        assert torch.equal(outside, torch.zeros_like(outside))


def batch_of(engine: SearchEngine) -> dict[str, Tensor]:
    loader = engine.selection.train_data_loader[0]
    return loader.collate([loader.rows[i] for i in range(8)])


@pytest.mark.trains
@pytest.mark.parametrize("method", sorted(HYPERGRADIENTS))
def test_b_outside_its_block_is_zero_after_a_search_by_any_hypergradient(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], method: str
) -> None:
    run = run_of(tiny_config(*LARGE, "--hypergradient.type", method, kind="gpt2"))
    engine = find_ranks(run)
    check_sparse(load_file(run.folder.search_weights), dict.fromkeys(NAMES, K))
    record = ranks.load(run.folder.ranks)
    assert [layer.name for layer in record.layers] == NAMES == engine.lora.gates.names
    assert [layer.rank for layer in record.layers] == engine.ranks()
    assert record.k == K
    assert json.loads(run.folder.ranks.read_text())["lora_parameters"] == sum(engine.ranks()) * 2 * WIDTH
    assert all(len(layer.alpha) == len(layer.contribution) == K for layer in record.layers)
    assert len({layer.alpha for layer in record.layers}) == 4, "each part learns its own"
    assert min(abs(a - 1 / K) for layer in record.layers for a in layer.alpha) > 0


def test_the_search_of_all_three_parts_starts_as_plain_lora(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    config = tiny_config(
        "--lora.target_modules", "[c_attn.k,c_attn.v,c_attn.q]", "--lora.lora_alpha", "6", kind="gpt2"
    )
    engine = build_search(run_of(config), second_order=False)
    assert engine.lora.gates.names == [f"{layer}.{part}" for layer in LAYERS for part in "qkv"]
    for layer in engine.lora.gates.layers.values():
        assert layer.scaling[ADAPTER] == pytest.approx(6 / K)
        torch.nn.init.normal_(layer.lora_B[ADAPTER].weight)  # type: ignore[arg-type]
    batch = batch_of(engine)
    engine.lora.module.eval()
    with torch.no_grad():
        assert engine.lora.loss(batch, engine.selection.module()) == engine.lora.module(**batch).loss


@pytest.mark.trains
def test_a_search_that_is_resumed_ends_with_the_same_bits(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_of(tiny_config(*LARGE, "--name", "whole", kind="gpt2"))
    search(whole)
    config = tiny_config(*LARGE, "--name", "stopped", kind="gpt2")
    original = SearchHook.after_step

    def after_step(self: SearchHook, engine: Any) -> bool:
        self.stop.code = 130 if engine.global_step == 3 else None
        return original(self, engine)

    with monkeypatch.context() as patch:
        patch.setattr(SearchHook, "after_step", after_step)
        with pytest.raises(Interrupted):
            search(run_of(config))
    again = run_of(config)
    torch.manual_seed(77)
    search(again)
    assert again.folder.search_numbers.read_bytes() == whole.folder.search_numbers.read_bytes()
    found, expected = (load_file(run.folder.search_weights) for run in (again, whole))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    check_sparse(found, dict.fromkeys(NAMES, K))


@pytest.mark.trains
@pytest.mark.parametrize("scale", ["mean_rank", "component", "fixed"])
def test_init_search_and_its_export_compute_what_the_search_computes_at_hard_gates(
    tiny_config: Callable[..., RunConfig],
    run_of: Callable[..., Context],
    model_folder: Callable[..., Path],
    request: pytest.FixtureRequest,
    scale: Any,
) -> None:
    config = tiny_config(
        *LARGE, "--search.steps", "8", "--retrain.scale", scale, "--retrain.init", "search", kind="gpt2"
    )
    run = run_of(config)
    engine = find_ranks(run)
    record = ranks.load(run.folder.ranks)
    request.getfixturevalue("float64")
    batch, kept = batch_of(engine), kept_mask(record)
    assert 0 < kept.sum() < kept.numel()
    searched = engine.lora.module.double().eval()
    with torch.no_grad(), engine.lora.gates.open(kept.double()):
        expected = searched(**batch).logits
    # What stands where in the file must not matter.
    record = dataclasses.replace(record, layers=record.layers[::-1])
    base = run.base()
    base.model.double()
    model = attach_ranks(base.model, adapter_config(config, record, run.task, base.trained_whole), record)
    start_from_search(model, config, record, Components(run.folder.search_weights, record, config.lora.target_modules))
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(**batch).logits, expected, rtol=1e-10, atol=1e-12)
    save_adapter(model, run.tokenizer, run.folder.adapter)
    check_sparse(load_file(run.folder.adapter / ADAPTER_WEIGHTS), record.kept)
    plain: Any = AutoModelForSequenceClassification.from_pretrained(model_folder("gpt2"), num_labels=2).double()
    plain.config.pad_token_id = base.model.config.pad_token_id
    loaded = PeftModel.from_pretrained(plain, run.folder.adapter).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded(**batch).logits, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.trains
def test_init_search_refuses_another_part_than_was_searched(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    config = tiny_config(*LARGE, "--search.steps", "2", "--retrain.init", "search", kind="gpt2")
    find_ranks(run_of(config))
    folder = RunFolder(Path(config.runs_folder) / "tiny")
    raw = json.loads(folder.ranks.read_text())
    raw["layers"][0]["name"] = f"{LAYERS[0]}.k"
    write_json(folder.ranks, raw)
    with pytest.raises(UserError, match=r"--retrain\.init: 'search' needs ranks for exactly the searched layers"):
        run_stages(Request(config, "retrain", False, "x"), StopRequest(), draw=False)


def retrain(config: RunConfig, kept: dict[str, int]) -> RunFolder:
    """Stage 2 at ranks written by hand."""
    folder = RunFolder(Path(config.runs_folder) / str(config.name))
    if not folder.ranks.exists():
        write_json(folder.ranks, {"k": K, "layers": [{"name": n, "rank": r} for n, r in kept.items()]})
    run_stages(Request(config, "retrain", False, "x"), StopRequest(), draw=False)
    return folder


@pytest.mark.trains
def test_retraining_keeps_the_blocks_and_drops_what_has_rank_zero(
    tiny_config: Callable[..., RunConfig], model_folder: Callable[..., Path]
) -> None:
    decay = ("--retrain.weight_decay", "0.5", "--retrain.learning_rate", "3e-2", "--lora.lora_alpha", "6")
    config = tiny_config(*PARTS, *decay, "--export.padded", "true", "--export.merged", "true", kind="gpt2")
    names = [f"{layer}.{part}" for layer in LAYERS for part in "qkv"]
    folder = retrain(config, dict(zip(names, (3, 0, 2, 0, 0, 0), strict=True)))
    weights = load_file(folder.adapter / ADAPTER_WEIGHTS)
    check_sparse(weights, {names[0]: 3, names[2]: 2})
    settings = json.loads((folder.adapter / "adapter_config.json").read_text())
    assert settings["peft_type"] == "LORA"
    assert settings["target_modules"] == [LAYERS[0]], "a layer whose parts all have rank 0 has no LoRA"
    assert settings["rank_pattern"].get(LAYERS[0], settings["r"]) == 5
    mean = 5 / 2  # over the two parts that keep LoRA
    scale = settings["alpha_pattern"].get(LAYERS[0], settings["lora_alpha"]) / 5
    assert scale == pytest.approx(6 / (K * mean) ** 0.5)
    result = json.loads(folder.metrics.read_text())
    assert result["lora_parameters"] == 5 * 2 * WIDTH, "zeros that never move are no parameters"
    head = sum(value.numel() for name, value in weights.items() if ".lora_" not in name)
    assert result["trainable_parameters"] == 5 * 2 * WIDTH + head
    merged = load_file(folder.merged / "model.safetensors")
    before = load_file(model_folder("gpt2") / "model.safetensors")
    change = merged[f"{LAYERS[0]}.weight"] - before["h.0.attn.c_attn.weight"]
    moved = change.abs().amax(dim=0).view(3, WIDTH).amax(dim=1) > 0
    assert moved.tolist() == [True, False, True], "the keys are the base model's"


@pytest.mark.slow
def test_a_retraining_that_is_resumed_ends_with_the_same_bits(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    from autolora.engine.retrain import fit as trainer

    kept = dict(zip(NAMES, (3, 1, 0, 2), strict=True))
    common = (*PARTS, "--retrain.weight_decay", "0.5", "--retrain.learning_rate", "3e-2", "--lora.dropout", "0.1")
    whole = retrain(tiny_config(*common, "--name", "whole", kind="gpt2"), kept)
    config = tiny_config(*common, "--name", "stopped", kind="gpt2")

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            self.stop.code = 130
            control.should_save = control.should_training_stop = True

    with monkeypatch.context() as patch:
        patch.setattr(trainer.StopWhenAsked, "on_step_end", stop)
        with pytest.raises(Interrupted):
            retrain(config, kept)
    again = retrain(config, kept)
    found, expected = (load_file(folder.adapter / ADAPTER_WEIGHTS) for folder in (again, whole))
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    check_sparse(found, {name: rank for name, rank in kept.items() if rank})


@pytest.mark.slow
@pytest.mark.parametrize("method", ["lora", "lora_random", "lora_shuffled", "lora_grid"])
def test_every_method_with_ranks_gives_each_part_its_own(
    tiny_config: Callable[..., RunConfig], tmp_path: Path, method: str
) -> None:
    learned = [1, 4, 2, 3]
    write_json(tmp_path / "learned.json", {"k": K, "layers": [
        {"name": name, "rank": rank} for name, rank in zip(NAMES, learned, strict=True)
    ]})  # fmt: skip
    given = ("--lora.ranks_from", str(tmp_path / "learned.json")) if method in ("lora_random", "lora_shuffled") else ()
    config = tiny_config(
        *PARTS,
        *given,
        "--method",
        method,
        "--lora.r",
        "2",
        "--lora.grid",
        "[1,3]",
        "--retrain.max_steps",
        "2",
        kind="gpt2",
    )
    folder = run_stages(Request(config, "all", False, "x"), StopRequest(), draw=method == "lora")
    record = ranks.load(folder.ranks)
    found = {layer.name: layer.rank for layer in record.layers}
    assert list(found) == NAMES
    if method == "lora":
        assert set(found.values()) == {2}
    elif method == "lora_grid":
        trials = json.loads((folder.root / "grid.json").read_text())
        assert {tuple(trial["tried"].values()) for trial in trials["trials"]} == {(1, 1), (1, 3), (3, 1), (3, 3)}
        assert [found[name] for name in NAMES[:2]] == list(trials["chosen"].values())
    else:
        assert sum(found.values()) == sum(learned)
    result = json.loads(folder.metrics.read_text())
    assert result["lora_parameters"] == sum(found.values()) * 2 * WIDTH
    check_sparse(load_file(folder.adapter / ADAPTER_WEIGHTS), record.kept)


@pytest.mark.trains
@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({LAYERS[0]: 2, NAMES[0]: 1}, "is named whole and by part"),
        ({f"{LAYERS[0]}.w": 1}, r"the model has no layer .*; the nearest is 'transformer\.h\.0\.attn\.c_attn"),
        ({NAMES[0]: 33}, r"rank 33 of '.*c_attn\.q' is out of range; allowed: 0 to 32"),
        ({NAMES[0]: 0}, "every rank is 0"),
    ],
)
def test_bad_ranks_of_parts_are_one_line(
    tiny_config: Callable[..., RunConfig], layers: dict[str, int], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        retrain(tiny_config(*PARTS, kind="gpt2"), layers)
