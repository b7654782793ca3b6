"""PReLU at the speed of two rectifiers."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class PReLU(nn.PReLU):
    """x where it is positive, a x elsewhere, with an `a` a channel, learnt; same weights as torch's.

    On the CPU torch's own backward pass runs one number at a time; `relu(x) - a relu(-x)` is the same function
    of operations that are vectorised, and takes half the time.
    """

    def forward(self, input: Tensor) -> Tensor:
        """(N, channel, ...) of the input's shape."""
        if input.device.type != "cpu":
            return super().forward(input)
        weight = self.weight.view(-1, *[1] * (input.dim() - 2))
        return functional.relu(input) - weight * functional.relu(-input)
