"""A model of parallel branches, each with inputs of its own, summed: where LoRA is needed is known
by construction."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn

from autolora.engine.measure.likelihood import Categorical
from autolora.engine.measure.lora import Lora, heads_off
from autolora.engine.measure.passes import Passes
from autolora.engine.search.searched import to_singular_basis
from autolora.problems.gates import Gates
from autolora.problems.machine.compute import Compute
from autolora.problems.rows import Rows

CLASSES = 3
WIDTH = 6
HIDDEN = 5


class Branches(nn.Module):
    """logits = sum over the branches of out_b (W_b x_b); out_b stay frozen and LoRA sits on W_b."""

    def __init__(self, branches: int) -> None:
        super().__init__()
        self.branch = nn.ModuleList(nn.Linear(WIDTH, HIDDEN, bias=False) for _ in range(branches))
        self.out = nn.ModuleList(nn.Linear(HIDDEN, CLASSES, bias=False) for _ in range(branches))

    def forward(self, x: Tensor) -> Any:
        parts = [
            out(w(x[:, b])) for b, (w, out) in enumerate(zip(self.branch, self.out, strict=True))
        ]
        return SimpleNamespace(logits=torch.stack(parts).sum(dim=0))


def make(branches: int, k: int) -> PeftModel:
    """The model with LoRA of rank k on every branch."""
    targets = [f"branch.{b}" for b in range(branches)]
    model: Any = Branches(branches)
    adapted: Any = get_peft_model(model, LoraConfig(r=k, lora_alpha=k, target_modules=targets))
    return adapted


def rows_of(inputs: Tensor, labels: Tensor, groups: Sequence[Any] | None = None) -> Dataset:
    """Rows as `prepare` makes them; `groups` None: each of its own input."""
    groups = list(range(len(labels))) if groups is None else groups
    return Dataset.from_dict(
        {
            "x": inputs.tolist(),
            "labels": labels.tolist(),
            "length": [1] * len(labels),
            "group": groups,
        }
    )


def collate(rows: list[dict[str, Any]]) -> dict[str, Tensor]:
    """A batch of `rows_of`."""
    return {
        "x": torch.tensor([row["x"] for row in rows]),
        "labels": torch.tensor([row["labels"] for row in rows]),
    }


def passes_of(
    inputs: Tensor, labels: Tensor, sources: list[str] | None = None, **changes: Any
) -> Passes:
    """Passes over these rows as the rows of D_val."""
    data = rows_of(inputs, labels, sources)
    fields: dict[str, Any] = {
        "likelihood": Categorical(),
        "compute": Compute(torch.device("cpu"), bf16=False),
    }
    return Passes(Rows.encoded(data, collate), **(fields | changes))


def planted(
    branches: int, needed: tuple[int, ...], rows: int, seed: int
) -> tuple[PeftModel, Tensor, Tensor]:
    """An untrained model, inputs [rows, branches, WIDTH], and labels drawn from the model with a
    rank-1 change in the `needed` branches. If `needed` is empty, the labels are random."""
    torch.manual_seed(seed)
    model = make(branches, k=4)
    inputs = torch.randn(rows, branches, WIDTH)
    base: Any = model.get_base_model()
    with torch.no_grad():
        logits = base(inputs).logits * 0
        for b in needed:
            change = torch.randn(HIDDEN, 1) @ torch.randn(1, WIDTH)
            logits += 6 * base.out[b](inputs[:, b] @ change.T)
    if needed:
        logits = logits + base(inputs).logits.detach()
    return model, inputs, torch.distributions.Categorical(logits=logits).sample()


def misled(rows: int, seed: int) -> tuple[PeftModel, Tensor, Tensor]:
    """As `planted`, of six branches that need a rank-1 change in two, with inputs whose covariance
    has a condition of 100, and LoRA that is large where it does nothing.

    In every branch one component of LoRA reads the loudest direction of the inputs, but writes what
    `out` does not show; another one writes what shows, but reads the quietest direction. The labels
    depend on neither direction."""
    torch.manual_seed(seed)
    model = make(6, k=4)
    base: Any = model.get_base_model()
    scale = torch.tensor([3.0, 1.0, 1.0, 1.0, 1.0, 0.3])
    turn = torch.linalg.qr(torch.randn(6, WIDTH, WIDTH))[0]
    inputs = torch.einsum("rbi,bij->rbj", torch.randn(rows, 6, WIDTH) * scale, turn)
    with torch.no_grad():
        logits = torch.zeros(rows, CLASSES)
        for b, branch in enumerate(base.branch):
            loud, *others, quiet = turn[b]
            frozen = branch.base_layer.weight
            frozen -= frozen @ (torch.outer(loud, loud) + torch.outer(quiet, quiet))
            logits += base.out[b](inputs[:, b] @ frozen.T)
            hidden = torch.linalg.svd(base.out[b].weight)[2]
            if b in (1, 4):
                logits += 5 * base.out[b](inputs[:, b] @ torch.outer(others[0], hidden[0]))
            branch.lora_A["default"].weight[:2] = torch.stack([loud, quiet])
            branch.lora_B["default"].weight[:, :2] = torch.stack(
                [8 * hidden[-1], 4 * hidden[0]], dim=1
            )
    return model, inputs, torch.distributions.Categorical(logits=logits).sample()


def train(model: PeftModel, inputs: Tensor, labels: Tensor, steps: int = 200) -> None:
    """Plain LoRA by Adam on batches of 32 rows."""
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=2e-2)
    for step in range(steps):
        rows = torch.arange(32 * step, 32 * step + 32) % len(labels)
        loss = nn.functional.cross_entropy(model(x=inputs[rows]).logits, labels[rows])
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def lora_of(model: PeftModel) -> Lora:
    """The LoRA of a trained model as a search leaves it."""
    gates = Gates(model)
    to_singular_basis(gates, torch.ones(len(gates.names), gates.k))
    gates.remove()
    return Lora(model)


def lora_with_head(rows: int) -> tuple[Lora, Passes]:
    """A searched model of three branches that has trained an output layer beside LoRA, and its
    rows; alone, this layer was random."""
    _, inputs, labels = planted(branches=3, needed=(1,), rows=rows, seed=4)
    targets = [f"branch.{b}" for b in range(3)]
    base: Any = Branches(3)
    model: Any = get_peft_model(
        base, LoraConfig(r=4, target_modules=targets, modules_to_save=["out.0"])
    )
    train(model, inputs, labels, steps=40)
    lora_of(model)
    alone = {"out.0.weight": torch.randn(CLASSES, HIDDEN)}
    return Lora(model, off=heads_off(model, alone)), passes_of(inputs, labels)
