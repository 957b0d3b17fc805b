"""The LoRA of a model as values: its layers, and a cut of it as overrides of parameters.

Nothing is written to the model. `functional_call` lets other values stand in for parameters during
one call, so that one line gates LoRA on linear layers, embeddings and stacked experts alike: gate
g_j multiplies column j of B.

DoRA divides by the norm of W + s B A, which follows the gates. PEFT holds that norm constant when
it differentiates. Along the path of the shares it is not constant, so the magnitude that stands in
for the layer's own carries the norm's slope.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ParamSpec, TypeVar

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.layer import ParamWrapper
from peft.utils.integrations import dequantize_module_weight
from torch import Tensor, nn
from torch.func import functional_call

from autolora.engine.measure.bases import Basis, even_ranks, plain_basis
from autolora.problems.models.attach import ADAPTER, PREFIX

Inputs = ParamSpec("Inputs")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Layer:
    """One layer with LoRA.

    `name`: in the base model; for stacked experts, the name of the parameter that holds them.
    `module`: PEFT's layer. `a`, `b`: the names of both factors among the model's parameters.
    `scaling`: what PEFT multiplies B A by. `experts`: how many lie in one parameter, each with
    factors of its own; 0 for any other layer.
    """

    name: str
    module: LoraLayer
    a: str
    b: str
    rank: int
    scaling: float
    experts: int = 0

    @property
    def is_embedding(self) -> bool:
        """Whether A has a column for each token, so that A x is one of its columns."""
        return ".lora_embedding_A." in self.a

    def split(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Both factors as PEFT keeps them -> A [r, inputs] and B [outputs, r], with a first
        dimension for the experts where there are some."""
        if not self.experts:
            return a, b
        of_experts = b.view(len(b), -1, self.experts).permute(2, 0, 1)
        return a.view(self.experts, -1, a.shape[-1]), of_experts

    def joined(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """The reverse of `split`."""
        if not self.experts:
            return a, b
        return a.reshape(-1, a.shape[-1]), b.permute(1, 2, 0).reshape(b.shape[1], -1)

    def key(self, parameter: str, adapter: str) -> str:
        """The name of a parameter of this layer in an adapter's file."""
        before, _, after = parameter.rpartition(f".{adapter}")
        return before + after


@dataclass(frozen=True)
class Norm:
    """What the norms of the rows of W + s B A follow from, for B with any gates.

    `base`: the squared norms of the rows of W [outputs]. `cross`: s W A' [outputs, r]. `gram`: s^2
    A A' [r, r].
    """

    base: Tensor
    cross: Tensor
    gram: Tensor

    def __call__(self, b: Tensor) -> Tensor:
        """The norms [outputs] with this B [outputs, r]."""
        squares = self.base + 2 * (self.cross * b).sum(dim=1) + ((b @ self.gram) * b).sum(dim=1)
        return squares.sqrt()


@dataclass(frozen=True)
class Cut:
    """What is active in a pass.

    `gates`: of the components [layers, k]; 0 leaves one out, 1 keeps it, and any number between,
    also with a gradient, is allowed. `bases`: those in which the components lie; None, for all or
    for one layer: as the model has them. `ungated`: where the parameters of LoRA that no gate
    reaches lie between LoRA off (0) and on (1).
    """

    gates: Tensor
    bases: Sequence[Basis | None] | None = None
    ungated: float | Tensor = 1.0


class Lora:
    """The LoRA of one adapter of a model. k is the largest of the layers' ranks.

    `off`: parameter of the model -> its value without LoRA, for parameters that are trained beside
    LoRA and that no gate reaches: a head, biases. The magnitudes of DoRA and LoRA's own biases are
    found here. `ungated`: all of these, with their values off and on. `norms`: of the DoRA layers.
    """

    def __init__(
        self, model: PeftModel, adapter: str = ADAPTER, off: Mapping[str, Tensor] | None = None
    ) -> None:
        self.model = model
        self.adapter = adapter
        self.parameters = dict(model.named_parameters(remove_duplicate=False))
        self._names_of = _by_parameter(self.parameters)
        self.layers = layers_of(model, adapter)
        self.names = [layer.name for layer in self.layers]
        self.ranks = [layer.rank for layer in self.layers]
        self.k = max(self.ranks)
        self.norms: dict[str, Norm] = {}
        values = dict(off or {})
        for layer in self.layers:
            values |= self._beside(layer)
        self.ungated = {
            name: (value.to(self.parameters[name]), self.parameters[name].detach())
            for name, value in values.items()
        }

    @property
    def sizes(self) -> list[int]:
        """The LoRA parameters of one component of each layer [layers]."""
        pairs = ((self.parameters[layer.a], self.parameters[layer.b]) for layer in self.layers)
        numbers = [a.numel() + b.numel() for a, b in pairs]
        return [number // rank for number, rank in zip(numbers, self.ranks, strict=True)]

    @property
    def least(self) -> int:
        """The smallest rank that a layer can be cut to: 1 if PEFT keeps biases or magnitudes of its
        layers only beside an A and a B."""
        config: Any = self.model.peft_config[self.adapter]
        return int(config.use_dora or config.lora_bias or config.bias != "none")

    def factors(self) -> list[tuple[Tensor, Tensor]]:
        """A and B of every layer, as `Layer.split` gives them."""
        return [
            layer.split(self.parameters[layer.a].detach(), self.parameters[layer.b].detach())
            for layer in self.layers
        ]

    def plain_bases(self) -> list[Basis]:
        """The bases of the plain SVD of B A."""
        return [plain_basis(a, b) for a, b in self.factors()]

    def first(self, ranks: Sequence[int]) -> Tensor:
        """The gates that keep the first components of each layer, as many as `ranks` says. Boolean
        [layers, k]."""
        return torch.arange(self.k) < torch.tensor(ranks).unsqueeze(1)

    def even(self, rank: int) -> Tensor:
        """The gates that keep the first `rank` components of every layer. Boolean [layers, k]."""
        return self.first(even_ranks(self.ranks, rank))

    @property
    def whole(self) -> Cut:
        """All of LoRA, as the model has it."""
        return Cut(self.even(self.k))

    @property
    def nothing(self) -> Cut:
        """LoRA off: the base model, with its head as it is."""
        return Cut(self.even(0), ungated=0.0)

    def overrides(self, cut: Cut) -> dict[str, Tensor]:
        """Parameter -> the value that stands in for it in the cut model.

        No value asks for a gradient but those that depend on the cut: with a trainer's own model, a
        backward pass would otherwise compute the gradients of LoRA, too."""
        values: dict[str, Tensor] = {}
        for name, (off, on) in self.ungated.items():
            values[name] = _between(off, on, cut.ungated)
        bases = cut.bases or [None] * len(self.layers)
        for layer, basis, gates in zip(self.layers, bases, cut.gates, strict=True):
            a, b = self._factors_in(layer, basis)
            gates = gates[: layer.rank].to(b.device).repeat_interleave(max(1, layer.experts))
            b_cut = (b * gates).to(b.dtype)
            values[layer.a] = a
            values[layer.b] = b_cut
            if gates.requires_grad and layer.name in self.norms:
                self._follow(values, layer, b_cut)
        frozen = {
            name: weight.detach()
            for name, weight in self.parameters.items()
            if weight.requires_grad
        }
        # A parameter may have several names; each stands for all of them.
        return frozen | {
            other: value
            for name, value in values.items()
            for other in self._names_of[self.parameters[name]]
        }

    def _factors_in(self, layer: Layer, basis: Basis | None) -> tuple[Tensor, Tensor]:
        """Both factors as PEFT keeps them, in another basis if one is given."""
        a, b = self.parameters[layer.a].detach(), self.parameters[layer.b].detach()
        if basis is None:
            return a, b
        other_a, other_b = layer.joined(basis.a, basis.b)
        return other_a.to(a), other_b.to(b)

    def _follow(self, values: dict[str, Tensor], layer: Layer, b: Tensor) -> None:
        """Gives the magnitude of a DoRA layer the slope of the norm that PEFT divides it by."""
        magnitude = values[self._magnitude_of(layer)]
        norms = self.norms[layer.name](_wide(b))
        slope_alone = norms.detach() / norms  # 1, but for its slope
        values[self._magnitude_of(layer)] = (magnitude * slope_alone).to(magnitude.dtype)

    def _beside(self, layer: Layer) -> dict[str, Tensor]:
        """The values without LoRA of what PEFT keeps beside A and B: a bias of zero, and the norm
        of W as the magnitude of DoRA."""
        off = {}
        bias = layer.b.removesuffix("weight") + "bias"
        if bias in self.parameters:
            off[bias] = torch.zeros_like(self.parameters[bias])
        magnitude = self._magnitude_of(layer)
        if magnitude in self.parameters:
            weight = base_weight(layer)
            off[magnitude] = torch.linalg.norm(weight, dim=1)
            weight = _wide(weight)
            a = _wide(self.parameters[layer.a].detach()) * layer.scaling
            self.norms[layer.name] = Norm(weight.square().sum(dim=1), weight @ a.T, a @ a.T)
        return off

    def _magnitude_of(self, layer: Layer) -> str:
        """The name of the layer's magnitude, if it is DoRA's."""
        kind = "lora_embedding_A" if layer.is_embedding else "lora_A"
        place, _, _ = layer.a.rpartition(f".{kind}.{self.adapter}")
        return f"{place}.lora_magnitude_vector.{self.adapter}.weight"


def _by_parameter(parameters: Mapping[str, Tensor]) -> dict[Tensor, list[str]]:
    """Parameter -> its names, of which tied weights have several."""
    names: dict[Tensor, list[str]] = {}
    for name, parameter in parameters.items():
        names.setdefault(parameter, []).append(name)
    return names


def layers_of(model: PeftModel, adapter: str) -> list[Layer]:
    """The layers with this adapter, in the model's order."""
    layers = []
    for path, module in model.get_base_model().named_modules():
        if not isinstance(module, LoraLayer):
            continue
        fields: dict[str, Any] = {"module": module, "name": path}
        if adapter in module.lora_embedding_A:
            fields |= {
                "a": f"{PREFIX}{path}.lora_embedding_A.{adapter}",
                "b": f"{PREFIX}{path}.lora_embedding_B.{adapter}",
            }
        elif adapter in module.lora_A:
            fields |= {
                "a": f"{PREFIX}{path}.lora_A.{adapter}.weight",
                "b": f"{PREFIX}{path}.lora_B.{adapter}.weight",
            }
        else:
            continue
        if isinstance(module, ParamWrapper):
            # several parameters of one module are wrapped one around the other
            owner = path.replace(".base_layer", "")
            fields |= {
                "name": f"{owner}.{module.parameter_name}",
                "experts": module.num_experts,
            }
        layers.append(Layer(rank=module.r[adapter], scaling=module.scaling[adapter], **fields))
    return layers


def base_weight(layer: Layer) -> Tensor:
    """The frozen weight below LoRA [outputs, inputs], without its quantisation."""
    module: Any = layer.module
    weight: Tensor = dequantize_module_weight(module.get_base_layer()).detach()
    turned = layer.is_embedding or getattr(module, "fan_in_fan_out", False)
    return weight.T if turned else weight


def heads_off(
    model: PeftModel, alone: Mapping[str, Tensor], adapter: str = ADAPTER
) -> dict[str, Tensor]:
    """Parameter of `model` -> its value without LoRA, for the modules that are trained whole.

    `alone`: name in the base model -> weight of the head that was trained alone. The head that was
    searched beside LoRA expects LoRA: without it, or with little of it, it may be far worse than
    the head alone (on BioNLP 2004 1.5 nats against 0.7, where the searched model has 0.3). A
    measurement between no LoRA and all of it therefore takes a head in between."""
    names = {
        name.replace(f".modules_to_save.{adapter}", ""): name
        for name, _ in model.named_parameters()
    }
    return {names[f"{PREFIX}{name}"]: value for name, value in alone.items()}


def _between(off: Tensor, on: Tensor, t: float | Tensor) -> Tensor:
    """off + t (on - off), exact at both ends."""
    weight = t.to(on.device, _wide(on).dtype) if isinstance(t, Tensor) else t
    return torch.lerp(_wide(off), _wide(on), weight).to(on.dtype)


def _wide(values: Tensor) -> Tensor:
    """The same in at least fp32."""
    return values.to(torch.promote_types(values.dtype, torch.float32))


class _Overridden(nn.Module):
    """A function of a model as the forward pass of a module, so that parameters can be overridden
    during all of it."""

    def __init__(self, model: nn.Module, function: Callable[[], Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self) -> Any:
        return self.function()


def call_with(
    model: nn.Module,
    overrides: Mapping[str, Tensor],
    function: Callable[Inputs, Result],
    *inputs: Inputs.args,
    **options: Inputs.kwargs,
) -> Result:
    """Calls `function`, which may use `model`, while values stand in for the model's parameters.

    A gradient must be taken by `function`: blocks that are computed again in a backward pass after
    the call would have the model's own parameters, and the slopes would be wrong without a word."""
    named = {f"model.{name}": value for name, value in overrides.items()}
    overridden = _Overridden(model, partial(function, *inputs, **options))
    # Looking for tied weights would take a walk through the model for each call; `Lora.overrides`
    # names them all.
    result: Result = functional_call(overridden, named, tie_weights=False)
    return result


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Inside the `with` block the model is in evaluation mode; after it each of its modules has its
    own mode again."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
