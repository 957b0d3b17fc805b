"""EVA: the ranks and the start are those of PEFT's own initialisation, and a stopped run resumes at them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import EvaConfig, LoraConfig, PeftModel, get_peft_model, initialize_lora_eva_weights
from safetensors.torch import load_file
from transformers import Gemma4ForCausalLM, Gemma4TextConfig

from autolora.configs.errors import UserError
from autolora.configs.requests import Request
from autolora.configs.schema import RunConfig
from autolora.engine import ranks
from autolora.engine.retrain.beginning import begin
from autolora.engine.retrain.methods import METHODS, eva
from autolora.engine.run.context import Context
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.interrupt import Interrupted, StopRequest
from autolora.engine.stages import run_stages
from autolora.problems.data import LengthGroupedOrder
from autolora.problems.machine.compute import Compute
from autolora.problems.models.attach import lora_layers
from tests.helpers.chat_toys import chat_arguments, chat_rows, chat_tokenizer
from tests.helpers.exports import of_mean_rank, scales_of
from tests.helpers.generation_toys import arguments, save_causal, write_e2e
from tests.helpers.methods import NAMES, SIZE, Done, K
from tests.helpers.stopping import StopAt

R, RHO, STEPS = 2, 2.0, 8
EVA = ("--method", "eva", "--lora.r", str(R), "--lora.rho", str(RHO))
WIDE = ("--lora.target_modules", "all-linear")


def prepared(run: Context) -> PeftModel:
    run.task.rows()
    found = METHODS["eva"].prepare(run.base(), run, 8)
    begin(run, found, run.data)
    assert isinstance(found.model, PeftModel)
    return found.model


def of_peft(run: Context, keep: tuple[str, ...]) -> PeftModel:
    """PEFT's initialisation by its own defaults, on all training rows; `keep`: what of a batch it is given."""
    base = run.base()
    names = list(ranks.load(run.folder.ranks).kept) + [x.name for x in ranks.load(run.folder.ranks).layers]
    settings = LoraConfig(
        r=R, lora_alpha=16, target_modules=sorted(set(names)), init_lora_weights="eva", eva_config=EvaConfig(rho=RHO),
        task_type=run.task.peft_type,
    )  # fmt: skip
    model = get_peft_model(base.model, settings)
    data, size = run.data.train, run.config.retrain.batch_size
    order = list(LengthGroupedOrder(data["length"], size, run.config.seed))
    assert sorted(order) == list(range(len(data))), "all rows, also those of D_val"
    batches = [run.data.collate([data[i] for i in order[at : at + size]]) for at in range(0, len(order), size)]
    rows = [{name: value for name, value in batch.items() if name in keep} for batch in batches]
    initialize_lora_eva_weights(model, rows, show_progress_bar=False)
    return model


def compare(mine: PeftModel, theirs: PeftModel) -> None:
    found, expected = lora_layers(mine), lora_layers(theirs)
    assert found.keys() == expected.keys()
    assert len({layer.r["default"] for layer in found.values()}) > 1, "the ranks differ"
    for name, layer in found.items():
        own: Any = layer.lora_A["default"].weight
        assert torch.equal(own, expected[name].lora_A["default"].weight), name
        assert not layer.lora_B["default"].weight.any()


@pytest.mark.trains
def test_ranks_and_start_are_those_of_peft(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    run = run_of(tiny_config(*EVA, *WIDE))
    mine = prepared(run)
    # Given labels, one for each row, PEFT's mask of tokens would be another.
    compare(mine, of_peft(run, ("input_ids", "attention_mask", "token_type_ids")))
    record = ranks.load(run.folder.ranks)
    assert record.rule == "eva"
    assert sum(layer.rank for layer in record.layers) == R * len(record.layers), "the budget is one of ranks"
    assert max(layer.rank for layer in record.layers) <= R * RHO
    assert scales_of(mine) == of_mean_rank(record.kept, 16, K)


@pytest.mark.trains
def test_of_a_language_model_no_prompt_counts(tmp_path: Path, run_of: Callable[..., Context]) -> None:
    from autolora.configs.parser import parse

    model, data = save_causal(tmp_path / "model", "llama"), write_e2e(tmp_path / "data")
    argv = [*arguments(model, data, tmp_path / "runs", "[q_proj,o_proj,down_proj]"), *EVA]
    run = run_of(parse(argv).config)
    mine = prepared(run)
    compare(mine, of_peft(run, ("input_ids", "attention_mask", "labels")))


def test_tokens_in_one_list_count_as_those_in_rows() -> None:
    """Shared experts get them so; all tokens counted, also padding and prompts."""
    inputs = torch.randn(2, 4, 3)
    places = torch.tensor([[False, True, True, False], [True, False, False, False]])
    assert torch.equal(eva._tokens(inputs.view(8, 3), places, "x"), eva._tokens(inputs, places, "x"))
    assert len(eva._tokens(inputs[:1], places, "x")) == 4, "a layer with other rows: all"


@pytest.mark.trains
def test_a_model_that_shares_keys_and_values_reads_every_token(
    tmp_path: Path, run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemma 4 cut the inputs of such layers to the last token, which is mostly padding."""
    from autolora.configs.parser import parse

    data = tmp_path / "messages.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in chat_rows()))
    tokenizer = chat_tokenizer()
    sizes = {"vocab_size": len(tokenizer), "vocab_size_per_layer_input": len(tokenizer), "hidden_size": 32}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "global_head_dim": 16}
    settings = Gemma4TextConfig(
        **sizes, **heads, intermediate_size=64, num_hidden_layers=4, hidden_size_per_layer_input=8,
        num_kv_shared_layers=2, layer_types=["sliding_attention", "full_attention"] * 2, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, initializer_range=0.3, tie_word_embeddings=False,
    )  # fmt: skip
    Gemma4ForCausalLM(settings).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    argv = [*chat_arguments(tmp_path / "model", data, tmp_path / "runs"), "--method", "eva", "--lora.r", "1"]
    run = run_of(parse([*argv, "--lora.target_modules", "[q_proj]", "--lora.rho", "2"]).config)
    seen, original = [], eva._tokens

    def tokens(inputs: Any, places: torch.Tensor, name: str) -> torch.Tensor:
        found = original(inputs, places, name)
        seen.append((len(found), int(places.sum())))
        return found

    monkeypatch.setattr(eva, "_tokens", tokens)
    prepared(run)
    assert seen
    assert all(read == counted for read, counted in seen)


@pytest.mark.trains
def test_on_mps_the_model_stays_on_the_cpu(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch,
    log_lines: list[str],
) -> None:  # fmt: skip
    """PEFT computes in fp64, which mps does not have: every run with EVA crashed there."""
    run = run_of(tiny_config(*EVA))
    run.task.rows()
    base = run.base()
    run.compute = Compute(torch.device("mps"), False)
    placed: list[str] = []

    def found(model: Any, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
        placed.extend(parameter.device.type for parameter in model.parameters())
        return dict.fromkeys(inputs.layers, torch.zeros(1, SIZE))

    monkeypatch.setattr(eva, "get_eva_state_dict", found)
    inputs = eva._Inputs(base, run)
    assert inputs.components().keys() == set(inputs.layers)
    assert set(placed) == {"cpu"}
    assert any("on the CPU" in line and "mps" in line for line in log_lines)


@pytest.mark.trains
def test_the_run_counts_what_it_took(done: Callable[..., Done]) -> None:
    run = done("eva")
    record, result = ranks.load(run.folder.ranks), run.result
    assert [layer.name for layer in record.layers] == NAMES
    assert result["lora_parameters"] == sum(record.kept.values()) * SIZE
    assert result["seconds"]["search"] > 0
    assert result["seconds"]["total"] == pytest.approx(result["seconds"]["search"] + result["seconds"]["retrain"])


@pytest.mark.slow
@pytest.mark.parametrize("step", [2, 5, STEPS])
def test_a_stopped_run_resumes_to_the_same_weights(
    make_config: Callable[..., RunConfig], finished_run: Callable[..., RunFolder], tmp_path: Path, step: int
) -> None:
    values = (*EVA, *WIDE, "--retrain.max_steps", str(STEPS), "--retrain.learning_rate", "3e-2")
    whole = finished_run("bert", *values)
    config = make_config(tmp_path / "parts", "bert", *values)
    folder = RunFolder(Path(config.runs_folder) / "tiny")
    with pytest.raises(Interrupted):
        run_stages(Request(config, "all", False, "x"), StopAt(folder, step), draw=False)
    run_stages(Request(config, "all", False, "x"), StopRequest(), draw=False)
    assert folder.ranks.read_text() == whole.ranks.read_text()
    found, expected = (load_file(x.adapter / "adapter_model.safetensors") for x in (folder, whole))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.trains
def test_one_training_run_sweeps_rates_at_one_choice_of_ranks(
    tiny_config: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The inputs are read once, not again for each rate."""
    read, components = [], eva._Inputs.components

    def counted(self: Any) -> Any:
        read.append(self)
        return components(self)

    monkeypatch.setattr(eva._Inputs, "components", counted)
    config = tiny_config(*EVA, "--retrain.learning_rates", "[1e-3,1e-2]")
    folder = run_stages(Request(config, "all", False, "x"), StopRequest(), draw=False)
    assert json.loads(folder.metrics.read_text())["learning_rate"] in (1e-3, 1e-2)
    assert len(read) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--lora.r", "20"), r"^--lora\.rho: 2 with --lora\.r 20 lets a layer have rank 40, but bert\..* at most 32;"),
        (("--lora.rho", "0.5"), r"^--lora\.rho: 0\.5 is not allowed; allowed: 1 to 1,000"),
    ],
)
def test_what_no_layer_can_have_is_refused(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], arguments: tuple[str, ...], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        prepared(run_of(tiny_config("--method", "eva", *arguments)))


@pytest.mark.trains
def test_components_that_do_not_come_to_rest_are_one_line(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(eva, "MOST_BATCHES", 3)
    run = run_of(tiny_config(*EVA, "--retrain.batch_size", "1", "--lora.r", "16"))
    with pytest.raises(UserError, match=r"^--lora\.rho: up to 32 principal components .* in 3 batches of 1 rows"):
        prepared(run)


@pytest.mark.trains
def test_a_signal_while_it_looks_stops_it(
    tiny_config: Callable[..., RunConfig], run_of: Callable[..., Context]
) -> None:
    stop = StopRequest()
    run = run_of(tiny_config(*EVA), stop)
    run.task.rows()
    base = run.base()
    stop.code = 143
    with pytest.raises(Interrupted):
        METHODS["eva"].prepare(base, run, 8)
    assert not run.folder.ranks.exists()
