"""One of several processes: its part of a batch, and what it tells the others when it is alone."""

import torch
from datasets import Dataset

from autolora.problems.data import Batches, own_parts
from autolora.problems.machine.processes import ALONE, Processes, joined


def rows_of(labels: list) -> Dataset:
    return Dataset.from_dict({"x": list(range(len(labels))), "labels": labels, "length": [3] * len(labels)})


def own_rows(rows: Dataset, batch: list[int], processes: Processes) -> tuple[list, float]:
    (own,), (share,) = own_parts(rows, batch, len(batch), processes)
    return own, share


def test_a_part_without_labels_gets_a_row_with_some() -> None:
    """The mean over no token is no number; the row it gets has labels, and counts nothing."""
    rows = rows_of([[-100, 1, 2], [-100, -100, -100]])
    own, share = own_rows(rows, [0, 1], Processes(1, 2))
    assert ([row["x"] for row in own], share) == ([0], 0.0)


def test_weighted_parts_have_the_gradient_of_the_whole() -> None:
    rows = rows_of([0, 1, 1, 0, 1, 0, 0])
    weight = torch.randn(4, 2, dtype=torch.float64, requires_grad=True)
    inputs = torch.randn(7, 4, dtype=torch.float64)

    def loss(found: list) -> torch.Tensor:
        places = [row["x"] for row in found]
        labels = torch.tensor([row["labels"] for row in found])
        return torch.nn.functional.cross_entropy(inputs[places] @ weight, labels)

    batch = list(range(7))
    parts = [own_rows(rows, batch, Processes(rank, 4)) for rank in range(4)]
    summed = sum(torch.autograd.grad(loss(own) * share, weight)[0] for own, share in parts)
    whole, _ = own_rows(rows, batch, ALONE)
    torch.testing.assert_close(summed, torch.autograd.grad(loss(whole), weight)[0])


def test_the_loaders_of_all_processes_walk_together() -> None:
    rows, masks = rows_of([0, 1] * 5), list[list[int]]()

    def seen(processes: Processes) -> list[set[int]]:
        cpu = torch.device("cpu")
        batches = Batches(rows, 4, lambda found: {"x": torch.tensor([r["x"] for r in found])}, 0, cpu, processes)
        masks.append([batches[number].seed for number in range(6)])
        return [set(batches[number].parts[0][0]["x"].tolist()) for number in range(6)]

    one, first, second = seen(ALONE), seen(Processes(0, 2)), seen(Processes(1, 2))
    assert [a | b for a, b in zip(first, second, strict=True)] == one
    assert not set(masks[1]) & set(masks[2]), "each draws dropout masks of its own"


def test_alone_everything_is_its_own() -> None:
    tensors = [torch.ones(2), torch.zeros(())]
    assert all(a is b for a, b in zip(ALONE.summed(tensors), tensors, strict=True))
    assert ALONE.of_first(lambda: 3) == 3
    with joined("cpu") as processes:
        assert processes is ALONE
