"""A sequence's results are the same bits alone as among others, forward and backward, on torch operators.

In float32, at sizes that fill no vector of the machine and at sizes that fill many.
"""

import pytest
import torch
from differential.harness import EXAMPLES, SPECS, Case, draw, draw_states, model_of, op_of, several

CASES = [
    Case(batch=5, length=77, heads=1, sizes=(20, 12, 3, 2), chunk=7),
    Case(batch=3, length=130, heads=3, sizes=(16, 64, 3, 2), chunk=None),
]


def run(op, inputs, start, case):
    """Outputs, final states and all gradients, those of a sum that weighs every sequence alike."""
    inputs, start = ({n: x.float().requires_grad_() for n, x in t.items()} for t in (inputs, start))
    states = tuple(start.values())
    made, final = op(
        **inputs,
        initial_state=states[0] if len(states) == 1 else states,
        output_final_state=True,
        chunk_size=case.chunk,
    )
    found = {f"result {n}": x for n, x in enumerate((*several(made), *several(final)))}
    total = sum((x * torch.linspace(-1, 1, x[0].numel()).view(x.shape[1:])).sum() for x in found.values())
    leaves = inputs | {f"{n}[0]": x for n, x in start.items()}
    grads = torch.autograd.grad(total, [*leaves.values()])
    return found | {f"d{n}": g for n, g in zip(leaves, grads, strict=True)}


@pytest.mark.parametrize("case", CASES, ids=("odd", "even"))
@pytest.mark.parametrize("name", [*EXAMPLES, *SPECS])
def test_alone_as_among_others(name, case):
    model, op = model_of(name), op_of(name)
    inputs, start = draw(model, case), draw_states(model, case)
    params = {i.name for i in model.inputs if i.is_param}
    among = run(op, inputs, start, case)
    for at in (0, case.batch - 1):
        own = {n: x if n in params else x[at : at + 1].clone() for n, x in inputs.items()}
        alone = run(op, own, {n: x[at : at + 1].clone() for n, x in start.items()}, case)
        for n in alone.keys() - {f"d{p}" for p in params}:
            torch.testing.assert_close(alone[n][0], among[n][at], rtol=0, atol=0, equal_nan=True, msg=f"{n}, {at}")
