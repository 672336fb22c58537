"""Adam without the compiler of torch.

`torch.optim.Adam` loads `torch._dynamo` when it is made, which takes two seconds of each process that trains.
This one takes its steps by the same function, so that the weights are the same bit for bit.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_BETAS, _EPS = (0.9, 0.999), 1e-8  # torch's defaults
_ROWS_A_BLOCK = 1024  # of a sparse gradient: what is computed of them stays in the cache
_PARTS = ("exp_avg", "exp_avg_sq", "step")  # of the state, by torch's names


class Adam:
    """Adam (Kingma and Ba 2015) with one learning rate, ``rate``, which may be set between steps.

    Of a parameter with a sparse gradient only the rows that have one move, and each counts its own steps. A
    row has one mean square in place of one for each number. So a step costs what moves. A parameter keeps to
    one kind of gradient.

    ``state`` holds by parameter what torch's has, and nothing for one that never had a gradient.
    """

    def __init__(
        self, parameters: "Iterable[torch.nn.Parameter]", rate: float, weight_decay: float = 0.0
    ) -> None:
        self.rate = rate
        self._parameters, self._weight_decay = list(parameters), weight_decay
        self.state: dict[torch.nn.Parameter, dict[str, torch.Tensor]] = {}

    def zero_grad(self) -> None:
        """Forget all gradients."""
        for parameter in self._parameters:
            parameter.grad = None

    def step(self) -> None:
        """Change every parameter that has a gradient."""
        import torch
        from torch.optim.adam import adam

        with_gradient = [parameter for parameter in self._parameters if parameter.grad is not None]
        for parameter in with_gradient:
            if parameter.grad is not None and parameter.grad.is_sparse:
                self._step_rows(parameter, parameter.grad)
        moved = [
            parameter
            for parameter in with_gradient
            if parameter.grad is not None and not parameter.grad.is_sparse
        ]
        states = [self.state.setdefault(parameter, {}) for parameter in moved]
        for parameter, state in zip(moved, states, strict=True):
            if not state:
                zeros = (torch.zeros_like(parameter), torch.zeros_like(parameter), torch.tensor(0.0))
                state.update(zip(_PARTS, zeros, strict=True))
        means, squares, steps = ([state[part] for state in states] for part in _PARTS)
        with torch.no_grad():
            adam(
                [*moved],
                [parameter.grad for parameter in moved if parameter.grad is not None],
                means,
                squares,
                [],
                steps,
                amsgrad=False,
                beta1=_BETAS[0],
                beta2=_BETAS[1],
                lr=self.rate,
                weight_decay=self._weight_decay,
                eps=_EPS,
                maximize=False,
            )

    def _step_rows(self, parameter: "torch.nn.Parameter", gradient: "torch.Tensor") -> None:
        import torch

        rows, values = gradient.indices()[0], gradient.values()
        state = self.state.setdefault(parameter, {})
        if not state:
            n = len(parameter)
            state.update(
                zip(_PARTS, (torch.zeros_like(parameter), torch.zeros(n), torch.zeros(n)), strict=True)
            )
        for start in range(0, len(rows), _ROWS_A_BLOCK):
            block = slice(start, start + _ROWS_A_BLOCK)
            self._step_block(parameter, state, rows[block], values[block])

    def _step_block(
        self,
        parameter: "torch.nn.Parameter",
        state: "dict[str, torch.Tensor]",
        rows: "torch.Tensor",
        values: "torch.Tensor",
    ) -> None:
        import torch

        mean, square, step = (state[part] for part in _PARTS)
        with torch.no_grad():
            steps = step[rows] + 1
            means = mean[rows].lerp_(values, 1 - _BETAS[0])
            numbers = values.reshape(len(rows), -1)
            found = torch.linalg.vector_norm(numbers, dim=1).square_().div_(numbers.shape[1])
            squares = square[rows].lerp_(found, 1 - _BETAS[1])
            step[rows], mean[rows], square[rows] = steps, means, squares
            length = (squares / (1 - _BETAS[1] ** steps)).sqrt_().add_(_EPS)
            size = self.rate / ((1 - _BETAS[0] ** steps) * length)
            change = means.mul_(size.reshape(-1, *[1] * (parameter.dim() - 1)))
            parameter.index_add_(0, rows, change, alpha=-1)
