"""The digest of what decides the loss of a training."""

from typing import Any

from benchmarks.enough.settings import digest_of

SETTINGS = {
    "seed": 0, "task.path": "here", "task.train_rows": 40, "retrain.learning_rate": 1e-3, "retrain.scale": "mean_rank",
    "lora.k": 8, "lora.r": 1, "search.steps": 300, "answer.rule": "shares",
}  # fmt: skip
DATA = {"training": {"rows": 40, "sha256": "a"}, "evaluation": {}, "source": {"rows": 90, "sha256": "c"}}


def digests(method: str, data: dict[str, Any] = DATA, base: str = "w", **settings: Any) -> list[str]:
    given = {name.replace("__", "."): value for name, value in settings.items()}
    found = digest_of({"method": method, "settings": SETTINGS | given, "data": data, "base_weights": base})
    return found.split(".")


def test_a_training_has_a_part_for_all_that_it_reads() -> None:
    head, lora, search = digests("head"), digests("lora"), digests("autolora")
    assert [len(parts) for parts in (head, lora, search)] == [1, 2, 3]
    assert search[:2] == lora
    assert lora[:1] == head


def test_seed_rank_and_where_the_rows_lie_may_differ() -> None:
    other = digests("lora", seed=3, lora__r=8, task__path="there", search__steps=9)
    assert other == digests("lora")


def test_what_decides_the_loss_changes_the_part_that_reads_it() -> None:
    search = digests("autolora")
    changes = [{"retrain__learning_rate": 3e-3}, {"retrain__scale": "component"}, {"search__steps": 9}]
    for place, change in enumerate(changes):
        differ = [one != other for one, other in zip(search, digests("autolora", **change), strict=True)]
        assert differ == [place == part for part in range(3)]
    assert digests("head", base="v") != digests("head")
    assert digests("head", {**DATA, "training": {"rows": 40, "sha256": "b"}}) != digests("head")
    assert digests("head", {**DATA, "source": {"rows": 99, "sha256": "d"}}) == digests("head")
