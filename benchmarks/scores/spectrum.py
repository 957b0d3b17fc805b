"""The gradient spectrum: by how much one rank-1 change of a layer's weight could lower L_tr, to first order.

Of all rank-1 changes of one size, the one along the gradient's largest singular vectors lowers the loss most, by the
largest singular value times this size. (A public study of GPT-2 ranks its layers by such spectra.)
"""

import torch
from datasets import Dataset
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from engine.answer.head import train_head
from engine.answer.sample import Sample
from engine.run.workbench import Workbench
from problems.models.parts import layout


def gradient_spectrum(run: Workbench, d_tr: Dataset, of_tr: Sample, of_val: Sample, groups: list[str]) -> Tensor:
    """The largest singular value, squared, of dL_tr/dweight of each group [groups].

    The gradient is that of the base model whose head alone was trained on D_tr, over the rows of `of_tr`. Dropout is
    off. The training of the head ends when the loss on `of_val` stops falling. `groups`: the names of layers, or of
    parts of fused layers.
    """
    model, _ = train_head(run, d_tr, of_val)
    places = layout(dict.fromkeys(groups, 1))
    modules = {place.layer: model.get_submodule(place.layer) for place in places.values()}
    gradients = _gradients(model, list(modules.values()), of_tr)
    by_layer = dict(zip(modules, gradients, strict=True))
    values = []
    for name in groups:
        whole = by_layer[places[name].layer]
        part = whole[places[name].rows(len(whole))]
        values.append(torch.linalg.svdvals(part)[0].square())
    return torch.stack(values)


def _gradients(model: nn.Module, modules: list[nn.Module], sample: Sample) -> list[Tensor]:
    """dL/dweight [outputs, inputs] of each module, in float64, for the mean loss of all rows of the sample."""
    weights: list[Tensor] = [module.get_parameter("weight").requires_grad_(True) for module in modules]
    sums, labels_seen = [torch.zeros(weight.shape, dtype=torch.float64) for weight in weights], 0.0
    model.eval()
    for _, inputs, labels in sample.own(sample.by_length()):
        with sample.compute.autocast():
            logits, told = sample.labelled_logits(model, inputs, labels)
        found = torch.autograd.grad(sample.likelihood.loss(logits, told, 1.0), weights)
        for total, one in zip(sums, found, strict=True):
            total += one.cpu().double()
        labels_seen += float(sample.likelihood.weights(logits, told).sum())
    means = [total / labels_seen for total in sums]
    return [mean.T if isinstance(module, Conv1D) else mean for mean, module in zip(means, modules, strict=True)]
