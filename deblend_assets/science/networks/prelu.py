"""PReLU whose backward pass is vectorised on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class PReLU(nn.PReLU):
    """x where it is positive, a x elsewhere, with an `a` a channel, learnt; weights and values are those of torch's.

    On the CPU torch's backward pass takes one number at a time, and as long as a convolution.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, channel, ...) of the input's shape."""
        if input.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(input)
        output: Tensor = _Vectorised.apply(input, self.weight)  # type: ignore[no-untyped-call]
        return output


class _Vectorised(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(images, weight)
        return torch.prelu(images, weight.to(images.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        (gradient,) = gradients
        images, weight = ctx.saved_tensors
        others = [axis for axis in range(images.dim()) if axis != 1]
        of_weight = (gradient * images.clamp(max=0)).sum(others)
        where_positive = torch.ops.aten.threshold_backward(gradient, images, 0)
        # From a times the gradient where x is negative to the gradient itself where it is not.
        slope = weight.view(-1, *[1] * (images.dim() - 2)).to(gradient.dtype)
        return torch.lerp(where_positive, gradient, slope), of_weight.to(weight.dtype)
