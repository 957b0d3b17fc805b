"""A stand-in for the layers of bitsandbytes, so that the tests need neither the package nor a GPU."""

import torch
from torch import Tensor, nn


class FourBits(nn.Module):
    """Multiplies in its `compute_dtype`, whatever its input, as bitsandbytes' Linear4bit does. [.., 4] -> [.., 4]"""

    def __init__(self, compute_dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.compute_dtype = compute_dtype
        self.weight = nn.Parameter(torch.linspace(-1, 1, 16).view(4, 4), requires_grad=False)

    def forward(self, inputs: Tensor) -> Tensor:
        dtype = self.compute_dtype
        return nn.functional.linear(inputs.to(dtype), self.weight.to(dtype)).to(inputs.dtype)
