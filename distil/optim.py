"""AdaDelta (Zeiler 2012; paper section 4.2) that pays only for the word vectors a batch contains."""

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import Parameter

EPSILON = 1e-6


class LazyAdadelta(torch.optim.Optimizer):
    """The same steps as ``torch.optim.Adadelta``, up to rounding, also for parameters with sparse gradients.

    A row without a gradient does not move, its two running averages only decay: by rho a step. That is made up for when the row
    next has a gradient, so that a step costs as much as the batch has words and not as much as the vocabulary has.

    Args:
        params: parameters; those of ``nn.Embedding(..., sparse=True)`` get sparse gradients.
        lr: learning rate; ``rho``: decay of the running averages.
    """

    def __init__(self, params: Iterable[Parameter], lr: float = 1.0, rho: float = 0.9) -> None:
        super().__init__(params, {"lr": lr, "rho": rho})

    @torch.no_grad()
    def step(self) -> None:
        """One step along the gradients that the parameters have now."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter] or self._new_state(parameter)
                    state["step"] += 1
                    update = _sparse if parameter.grad.is_sparse else _dense
                    update(parameter, state, group["lr"], group["rho"])

    def _new_state(self, parameter: Parameter) -> dict[str, Any]:
        state = self.state[parameter]
        state["step"], state["square"], state["delta"] = 0, torch.zeros_like(parameter), torch.zeros_like(parameter)
        if parameter.grad.is_sparse:
            state["last"] = torch.zeros_like(parameter[:, 0])  # step of a row's last gradient
        return state


def _dense(parameter: Parameter, state: dict[str, Any], lr: float, rho: float) -> None:
    square, delta = state["square"], state["delta"]
    square.mul_(rho).addcmul_(parameter.grad, parameter.grad, value=1 - rho)
    change = delta.add(EPSILON).div_(square.add(EPSILON)).sqrt_().mul_(parameter.grad)
    delta.mul_(rho).addcmul_(change, change, value=1 - rho)
    parameter.sub_(change, alpha=lr)


def _sparse(parameter: Parameter, state: dict[str, Any], lr: float, rho: float) -> None:
    gradient = parameter.grad.coalesce()
    rows, values = gradient.indices()[0], gradient.values()
    missed = rho ** (state["step"] - 1 - state["last"][rows])[:, None]  # decays since the row's last gradient
    square = state["square"][rows] * missed * rho + (1 - rho) * values**2
    delta = state["delta"][rows] * missed
    change = ((delta + EPSILON) / (square + EPSILON)).sqrt() * values
    state["square"][rows], state["delta"][rows] = square, delta * rho + (1 - rho) * change**2
    state["last"][rows] = state["step"]
    parameter.index_add_(0, rows, change, alpha=-lr)
