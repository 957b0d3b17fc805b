"""What lies outside the parts of a fused layer stays 0."""

import torch

from autolora.problems.models.parts import layout
from autolora.problems.models.sparse import KeepSparse


def test_the_gradient_outside_the_blocks_is_zero_also_when_differentiated_again() -> None:
    torch.manual_seed(0)
    b = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    places = layout({"c_attn.q": 1, "c_attn.v": 2})
    b.register_hook(KeepSparse(places.values(), b))
    inside = torch.zeros(6, 3, dtype=torch.bool)
    inside[0:2, 0] = inside[4:6, 1:3] = True
    (grad,) = torch.autograd.grad((b**3).sum(), [b], create_graph=True)
    torch.testing.assert_close(grad, torch.where(inside, 3 * b**2, 0.0))
    # grad . 1 is a function of the entries inside alone.
    (again,) = torch.autograd.grad(grad.sum(), [b])
    torch.testing.assert_close(again, torch.where(inside, 6 * b, 0.0))
    torch.autograd.backward((b**3).sum(), inputs=[b])
    torch.testing.assert_close(b.grad, torch.where(inside, 3 * b**2, 0.0))
