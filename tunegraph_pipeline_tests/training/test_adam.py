"""Our Adam takes the steps of torch's, and loads nothing of its compiler."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from tunegraph_pipeline.models.placing import gradient_of_rows
from tunegraph_pipeline.training.adam import Adam

# In a process of its own, in which nothing else has loaded the compiler.
BOTH = """
import json, sys, torch
from tunegraph_pipeline.training.adam import Adam

def parameters():
    torch.manual_seed(1)
    return [torch.nn.Parameter(torch.randn(size)) for size in ((7, 3), (5,), (2,))]

def course(make, set_to):
    *used, unused = given = parameters()
    optimiser = make(given)
    for step in range(20):
        set_to(optimiser, 0.1 / (1 + step))
        optimiser.zero_grad()
        sum(((one - 1) ** 4).sum() for one in used[: 1 + step % 2]).backward()
        optimiser.step()
    assert not optimiser.state.get(unused)
    state = [optimiser.state[one][part] for one in used for part in ("step", "exp_avg", "exp_avg_sq")]
    return [value.detach().numpy().tobytes().hex() for value in (*given, *state)]

def set_rate(optimiser, rate):
    optimiser.rate = rate

def set_group(optimiser, rate):
    optimiser.param_groups[0]["lr"] = rate

found = {}
for decay in (0.0, 0.01):
    ours = course(lambda given: Adam(given, 1.0, decay), set_rate)
    found.setdefault("loaded", "torch._dynamo" in sys.modules)
    theirs = course(lambda given: torch.optim.Adam(given, lr=1.0, weight_decay=decay), set_group)
    found[str(decay)] = ours == theirs
print(json.dumps(found))
"""


@pytest.mark.slow
def test_the_steps_are_those_of_torch_bit_for_bit_without_its_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", BOTH], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"loaded": False, "0.0": True, "0.01": True}


def test_rows_without_a_gradient_stay_and_the_others_count_their_own_steps() -> None:
    """By hand, with one number a row, where the mean square of a row is that of the number."""
    rng = np.random.default_rng(0)
    rows = torch.nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    optimiser = Adam([rows], 0.1)
    alone = {at: torch.nn.Parameter(rows.detach()[at].clone()) for at in (0, 2)}
    optimisers = {at: Adam([one], 0.1) for at, one in alone.items()}
    for moved in ([0], [0, 2], [2], [0, 2], [0]):
        values = torch.from_numpy(rng.standard_normal(len(moved)).astype(np.float32))
        rows.grad = gradient_of_rows(torch.tensor(moved), values, 3)
        optimiser.step()
        for at, value in zip(moved, values, strict=True):
            alone[at].grad = value
            optimisers[at].step()
    assert rows[1] == 2.0
    torch.testing.assert_close(rows.detach()[[0, 2]], torch.stack([alone[0], alone[2]]).detach())


def test_a_row_of_many_numbers_moves_in_the_direction_of_its_gradient() -> None:
    rows = torch.nn.Parameter(torch.zeros(3, 2))
    optimiser = Adam([rows], 0.1)
    rows.grad = gradient_of_rows(torch.tensor([1]), torch.tensor([[3.0, -4.0]]), 3)
    optimiser.step()
    # The root of the mean square of 3 and -4 is 5 / sqrt(2).
    expected = -0.1 * torch.tensor([[0, 0], [3.0, -4.0], [0, 0]]) / (5 / 2**0.5)
    torch.testing.assert_close(rows.detach(), expected)
