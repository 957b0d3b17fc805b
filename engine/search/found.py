"""The result of a search: the model in its singular basis, and the numbers of its components."""

from collections.abc import Mapping
from pathlib import Path

import torch
from peft import PeftModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from autolora.configs.errors import UserError
from autolora.engine.cut.basis import svd_of_product
from autolora.engine.disk.files import replacing
from autolora.engine.run.folder import RunFolder
from autolora.engine.run.workbench import Workbench
from autolora.problems.gates import Gates
from autolora.problems.models.attach import ADAPTER, attach_components, factors
from autolora.problems.models.recompute import recompute_blocks

NUMBERS = ("alpha", "contribution", "singular_values")
"""The tensors [layers, k] of a finished search that are stored. alpha and contribution belong to the components of the
search, singular_values to those of the singular basis."""


@torch.no_grad()
def to_singular_basis(gates: Gates, values: Tensor) -> Tensor:
    """Rewrites B and A of each layer so that B diag(gates) A = U S V^T becomes B = U sqrt(S), A = sqrt(S) V^T.

    `values` [layers, k]: the gates of the search; afterwards all gates count as 1. The model's outputs stay the same,
    up to rounding. The loss does not determine the searched components: a factor can move from a gate to its A or B,
    and B R with R^-1 A gives the same update for every invertible R. The singular basis removes both freedoms.
    Component j of a layer becomes the j-th singular direction of its update.

    Returns the singular values of each layer's update, LoRA's scale included, in falling order [layers, k]; on the
    CPU.
    """
    found = []
    for layer, gate in zip(gates.layers.values(), values.detach().cpu().double(), strict=True):
        a, b = factors(layer)
        left, singular, right = svd_of_product(b.cpu().double() * gate, a.cpu().double())
        root = singular.sqrt()
        b.copy_(left * root)
        a.copy_(root.unsqueeze(1) * right)
        found.append(singular * layer.scaling[ADAPTER])
    return torch.stack(found)


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Writes a safetensors file; after a crash the file is either complete or absent."""
    with replacing(path) as place:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, place)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors in a safetensors file of the search. Raises UserError if the file is missing or damaged."""
    try:
        found: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({error}); --stage search --overwrite searches again") from error
    return found


def read_numbers(folder: RunFolder) -> dict[str, Tensor]:
    """The tensors of NUMBERS of a finished search, each [layers, k]. Raises UserError if the file is missing or
    damaged."""
    found = read_tensors(folder.search_numbers)
    if any(name not in found for name in NUMBERS):
        raise UserError(
            f"{folder.search_numbers}: must hold {', '.join(NUMBERS)}; --stage search --overwrite searches again"
        )
    return found


def trains_head(folder: RunFolder) -> bool:
    """Whether the search trained a head, or other modules whole, beside LoRA. Raises UserError as `read_tensors`."""
    return any(".lora_" not in name for name in read_tensors(folder.search_weights))


@torch.no_grad()
def searched_model(run: Workbench) -> tuple[PeftModel, Gates]:
    """The searched model of this run and its gates, loaded from search/, on the run's device.

    Raises UserError if the searched weights are missing or belong to other layers.
    """
    config, weights = run.searched, read_tensors(run.folder.search_weights)
    base = run.base()
    model = attach_components(base.model, config.lora, run.kind.peft_type, base.trained_whole)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if set(trained) != set(weights) or any(trained[name].shape != weights[name].shape for name in trained):
        raise UserError(f"{run.folder.search_weights}: holds the weights of other layers or modules than this run "
                        f"trains; --stage search --overwrite searches again")  # fmt: skip
    for name, parameter in trained.items():
        parameter.copy_(weights[name])
    model.to(run.compute.device)
    gates = Gates(model)
    if config.model.gradient_checkpointing:
        recompute_blocks(model)
    return model, gates
