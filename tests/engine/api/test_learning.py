"""A model that comes back as it was, and one line for what is refused."""

import gc
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import get_peft_model
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from autolora.engine.api import AnswerConfig, HypergradientConfig, SearchConfig, UserError
from autolora.problems.halves import split_indices
from tests.helpers.api import class_rows, classifier, learn, padded, settings
from tests.helpers.generation_toys import make_causal
from tests.helpers.untouched import left_as_it_was, seen

pytestmark = pytest.mark.trains


class Stop(Exception):
    """Comes from inside a search."""


def failing(error: type[BaseException], after: int) -> Callable[[Any, dict[str, Tensor]], Tensor]:
    """A loss that raises in its `after`-th call."""
    calls = iter(range(after))

    def loss(model: Any, batch: dict[str, Tensor]) -> Tensor:
        if next(calls, None) is None:
            raise error
        found: Tensor = model(**batch).loss
        return found

    return loss


def bert(folder: Path) -> Any:
    """As a caller may have it: in training, with gradients, a frozen layer and a hook."""
    model = classifier(folder).train()
    model(**padded(class_rows(4))).loss.backward()
    model.bert.embeddings.requires_grad_(False)
    model.bert.encoder.layer[0].register_forward_hook(lambda module, inputs, output: output)
    model.config.pad_token_id = None
    return model


def checkpointed(folder: Path) -> Any:
    """With its blocks computed again, in bf16, in evaluation mode."""
    model = classifier(folder).to(torch.bfloat16).eval()
    model.gradient_checkpointing_enable()
    return model


def adapted(folder: Path) -> Any:
    """With an adapter that was trained, and a head of its own."""
    model = get_peft_model(classifier(folder), settings(r=2, modules_to_save=["pooler"]))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    return model


@pytest.mark.parametrize("make", [bert, checkpointed, adapted])
@pytest.mark.parametrize("error", [None, Stop, KeyboardInterrupt])
def test_the_model_comes_back_as_it_was(
    model_folder: Callable[..., Path], make: Callable[[Path], Any], error: type[BaseException] | None
) -> None:
    model = make(model_folder("bert"))
    with left_as_it_was(model):
        if error is None:
            assert learn(model, config=settings(modules_to_save=["pooler"])).ranks
        else:
            with pytest.raises(error):
                learn(model, config=settings(modules_to_save=["pooler"]), loss=failing(error, 7))


@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_it_learns_where_the_script_has_switched_gradients_off(
    model_folder: Callable[..., Path], without: Callable[[], Any]
) -> None:
    expected = learn(bert(model_folder("bert"))).record
    model = bert(model_folder("bert"))
    with without():
        found = learn(model).record
        assert not torch.is_grad_enabled()
    assert found == expected


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt])
def test_the_model_comes_back_as_it_was_when_the_answer_fails(
    model_folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """There the head was trained without LoRA, in its own weights."""
    model = bert(model_folder("bert"))
    head: list[Tensor] = []

    def measure(*_: Any) -> None:
        head.append(model.classifier.modules_to_save["default"].weight.detach().clone())
        raise error

    monkeypatch.setattr("autolora.engine.answer.stage.measure", measure)
    with left_as_it_was(model), pytest.raises(error):
        learn(model, config=settings(modules_to_save=["pooler"]))
    assert not torch.equal(head[0], model.classifier.weight), "it was trained"


def test_what_is_seen_of_a_model_shows_each_change(model_folder: Callable[..., Path]) -> None:
    """Otherwise the tests above could not fail."""
    changes: list[Callable[[Any], object]] = [
        lambda model: model.eval(),
        lambda model: model.bert.pooler.requires_grad_(False),
        lambda model: model.bert.pooler.dense.weight.data.mul_(1 + 2**-20),
        lambda model: model.bert.pooler.to(torch.float64),
        lambda model: model.bert.pooler.register_forward_pre_hook(lambda module, inputs: None),
        lambda model: model.zero_grad(),
        lambda model: setattr(model.config, "pad_token_id", 0),
        lambda model: setattr(model.bert.pooler, "forward", model.bert.pooler.forward),
        lambda model: setattr(model.bert.pooler, "dense", nn.Linear(32, 32)),
    ]
    for number, change in enumerate(changes):
        model = bert(model_folder("bert"))
        before = seen(model)
        assert seen(model) == before
        change(model)
        assert seen(model) != before, number


def test_random_numbers_go_on_and_nothing_is_written(
    model_folder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    model = classifier(model_folder("bert"))

    def drawn() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    def seed() -> None:
        random.seed(1)
        np.random.seed(1)
        torch.manual_seed(1)

    seed()
    expected = drawn()
    seed()
    learn(model)
    assert drawn() == expected
    assert [path.name for path in tmp_path.rglob("*")] == ["temporary"]


def test_nothing_of_the_searched_model_is_kept_in_memory(model_folder: Callable[..., Path]) -> None:
    """The caller's own training comes next, and needs the room."""
    model = classifier(model_folder("bert"))

    def alive() -> int:
        return sum(isinstance(thing, LoraLayer | torch.optim.Optimizer) for thing in gc.get_objects())

    gc.collect()
    before = alive()
    gc.disable()
    try:
        learned = learn(model)
    finally:
        gc.enable()
    assert learned.ranks
    assert alive() == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"config": settings(use_dora=True)}, r"lora_config: use_dora=True is not allowed in a search"),
        ({"config": settings(use_rslora=True)}, r"lora_config: use_rslora=True is not allowed"),
        ({"config": settings(rank_pattern={"query": 2})}, r"lora_config: rank_pattern=.* is not allowed"),
        ({"config": settings(init_lora_weights="pissa")}, r"lora_config: init_lora_weights='pissa' is not allowed"),
        ({"config": settings(target_modules=["qery"])}, r"--lora\.target_modules: qery matches no module"),
        ({"config": settings(target_modules="qery.*")}, r"lora_config: target_modules='qery\.\*' matches no linear"),
        ({"config": settings(r=64)}, r"--lora\.k: 64 is not allowed for layer .*; allowed: 1 to 32"),
        ({"rows": iter(())}, r"train_dataset: .* has no length or no index"),
        ({"rows": []}, r"train_dataset: has no rows; allowed: one or more"),
        ({"validation_dataset": iter(())}, r"validation_dataset: .* has no length or no index"),
        ({"rows": class_rows(1)}, r"--task\.validation_share: 0\.5 of 1 training rows "),
        ({"rows": class_rows(1), "search": None}, r"--task\.validation_share: 0\.5 of 1 training rows "),
        ({"rows": class_rows(3)}, r".* \(give more training rows or "),
        ({"collate": lambda examples: 3}, r"collate: returns int; allowed: a dict of tensors"),
        ({"collate": lambda examples: {"a": [1]}}, r"collate: 'a' is list; allowed: a tensor"),
        ({"loss": lambda model, batch: 3.0}, r"loss: returns float; allowed: a scalar tensor"),
        ({"search": SearchConfig(steps=0)}, r"--search\.steps: 0 is not allowed"),
        ({"search": {"steps": 200}}, r"search: dict is not allowed; allowed: SearchConfig"),
        ({"search": {}}, r"search: dict is not allowed; allowed: SearchConfig"),
        ({"answer": "shares"}, r"answer: str is not allowed; allowed: AnswerConfig"),
        ({"hypergradient": "exact"}, r"hypergradient: str is not allowed; allowed: HypergradientConfig"),
        ({"search": SearchConfig(batch_size="8")}, r"--search\.batch_size: '8' is not allowed; allowed: a whole "),
        ({"search": SearchConfig(batch_size=0)}, r"--search\.batch_size: 0 is not allowed; allowed: "),
        ({"answer": AnswerConfig(rows=-1)}, r"--answer\.rows: -1 is not allowed; allowed: "),
        ({"config": {"r": 8}}, r"lora_config: dict is not allowed; allowed: a peft\.LoraConfig"),
        ({"config": settings(target_modules=5)}, r"lora_config: target_modules=5 is not allowed; allowed: names, "),
        ({"config": settings(modules_to_save=[5])}, r"lora_config: modules_to_save=\[5\] is not allowed; allowed: a"),
        ({"config": settings(target_modules="q|*(")}, r"lora_config: target_modules='q\|\*\(' is no regular expres"),
        ({"search": SearchConfig(steps="6")}, r"--search\.steps: '6' is not allowed; allowed: a whole number"),
        ({"precision": "bf61"}, r"--precision: 'bf61' is not allowed; allowed: auto, "),
        ({"seed": "1"}, r"--seed: '1' is not allowed; allowed: a whole number"),
        ({"search": SearchConfig(scheduler="linaer")}, r"--search\.scheduler: 'linaer' is not allowed; allowed: line"),
        ({"hypergradient": HypergradientConfig(type="exact")}, r"hypergradient: exact needs second derivatives"),
        ({"answer": AnswerConfig(from_run="runs/a")}, r"answer\.from_run: is not allowed here"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_changes_nothing(
    model_folder: Callable[..., Path], options: dict[str, Any], message: str
) -> None:
    model = classifier(model_folder("bert"))
    with left_as_it_was(model), pytest.raises(UserError, match=f"^{message}") as caught:
        learn(model, **options)
    assert "\n" not in str(caught.value)


def test_half_precision_is_refused(model_folder: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"^model: weights of type float16 are not allowed; allowed: float32"):
        learn(classifier(model_folder("bert")).half())


def test_a_merged_adapter_is_refused(model_folder: Callable[..., Path]) -> None:
    """The search would start from weights that hold what the adapter learned."""
    model = adapted(model_folder("bert"))
    model.merge_adapter()
    with left_as_it_was(model), pytest.raises(UserError, match=r"^model: an adapter that is merged into the weights"):
        learn(model)


def test_a_compiled_model_gives_the_ranks_of_the_model_inside(model_folder: Callable[..., Path]) -> None:
    """Names with torch.compile's prefix would match no layer of the model."""
    expected = learn(classifier(model_folder("bert")))
    found = learn(torch.compile(classifier(model_folder("bert")), backend="eager"))
    assert found.record == expected.record
    assert get_peft_model(classifier(model_folder("bert")), found.lora_config)


def test_examples_without_a_label_are_named_where_their_batches_stop_the_search(
    model_folder: Callable[..., Path],
) -> None:
    """The message blamed the learning rates."""
    rows = [{**row, "labels": -100} if number % 2 else row for number, row in enumerate(class_rows(60))]
    search = SearchConfig(steps=60, batch_size=1, max_bad_steps=2)
    with pytest.raises(UserError, match=r"of the 30 examples of D_tr have no label, .*: leave them out, "):
        learn(classifier(model_folder("bert")), rows, search=search)


def test_to_a_language_model_a_label_on_the_first_token_alone_is_none() -> None:
    """No token comes before it, so that its loss is over nothing; nor has a single token one."""
    rows = [{"input_ids": [5, 6, 7], "labels": [5, 6, 7]} for _ in range(20)]
    rows += [{"input_ids": [5, 6, 7], "labels": [5, -100, -100]} for _ in range(20)]
    rows += [{"input_ids": [5], "labels": [5]} for _ in range(20)]

    def alone(examples: list[dict[str, Any]]) -> dict[str, Tensor]:
        return {name: torch.tensor([example[name] for example in examples]) for name in examples[0]}

    given = settings(task_type="CAUSAL_LM", target_modules=["q_proj"])
    search = SearchConfig(steps=60, batch_size=1, max_bad_steps=2)
    count = (split_indices(60, 0.5, seed=0)[0] >= 20).sum()
    with pytest.raises(UserError, match=rf"; {count} of the 30 examples of D_tr have no label, .*: leave them out, "):
        learn(
            make_causal("llama", 20), rows, given, collate=alone, search=search, answer=AnswerConfig(rule="threshold")
        )


@pytest.mark.parametrize("whole", [None, ["pooler"]])
def test_a_pooler_that_was_never_trained_is_told(
    model_folder: Callable[..., Path], log_lines: list[str], whole: list[str] | None
) -> None:
    """The function had left it frozen and said nothing, where the command line trains it."""
    learn(classifier(model_folder("bert")), config=settings(modules_to_save=whole))
    (line,) = (line for line in log_lines if "was never trained" in line)
    how = "it is trained like the task head" if whole else '--lora.modules_to_save null, or "[pooler]", trains it'
    assert line.startswith("INFO" if whole else "WARNING")
    assert line.endswith(how)
