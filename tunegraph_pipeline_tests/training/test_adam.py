"""Our Adam takes the steps of torch's, and loads nothing of its compiler."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

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


def test_the_steps_are_those_of_torch_bit_for_bit_without_its_compiler() -> None:
    done = subprocess.run([sys.executable, "-c", BOTH], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"loaded": False, "0.0": True, "0.01": True}
