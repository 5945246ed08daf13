"""Packed sequences at a call: the step-by-step forms, when offsets are read, and what a change of them does."""

from itertools import pairwise

import pytest
import torch
from differential.harness import Case, draw, draw_states, model_of, op_of

from flowc import reference

OFFSETS = [0, 4, 4, 5, 23]


def drawn(name="kda"):
    return {n: x.float() for n, x in draw(model_of(name), Case(batch=1)).items()}


@pytest.mark.parametrize("name", ["kda", "mamba2", "outputs_everywhere"])
@pytest.mark.parametrize("form", ["emitted", "oracle"])
def test_the_step_by_step_forms_run_sequences_apart(name, form):
    model, x = model_of(name), drawn(name)
    params, start = [i.name for i in model.inputs if i.is_param], draw_states(model, Case(batch=4))["S"].float()

    def run(values, state, **packed):
        if form == "oracle":
            outputs, states = reference.run(model, values, {"S": state}, **packed)
            return *outputs.values(), states["S"]
        found, final = op_of(name).reference(**values, initial_state=state, output_final_state=True, **packed)
        return *(found if isinstance(found, tuple) else (found,)), final

    *outputs, final = run(x, start, cu_seqlens=torch.tensor(OFFSETS))
    for n, (first, last) in enumerate(pairwise(OFFSETS)):
        own = {k: v if k in params else v[:, first:last] for k, v in x.items()}
        *alone, end = run(own, start[n : n + 1])
        assert all(torch.equal(a[:, first:last], b) for a, b in zip(outputs, alone, strict=True))
        assert torch.equal(final[n : n + 1], end)


@pytest.mark.parametrize("offsets", [[1, 23], [0, 9, 7, 23], [0, 22], [0], []])
def test_the_oracle_refuses_offsets_that_do_not_fit(offsets):
    with pytest.raises(ValueError, match=r"cu_seqlens is \[.*\]; expected offsets from 0 to 23 that never fall"):
        reference.run(model_of("kda"), drawn(), cu_seqlens=torch.tensor(offsets, dtype=torch.long))


def test_the_oracle_refuses_a_batch_and_states_of_another_number():
    double = {n: x.repeat(2, 1, 1, *[1] * (x.dim() - 3)) for n, x in drawn().items()}
    with pytest.raises(ValueError, match="with batch 1"):
        reference.run(model_of("kda"), double, cu_seqlens=torch.tensor(OFFSETS))
    with pytest.raises(ValueError, match=r"S has shape \(1, 2, 5, 4\); expected 4 sequences first"):
        reference.run(model_of("kda"), drawn(), {"S": torch.zeros(1, 2, 5, 4)}, torch.tensor(OFFSETS))


def test_offsets_are_read_once_and_again_after_a_change(monkeypatch):
    x, offsets, reads = drawn(), torch.tensor(OFFSETS), []
    read = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda tensor: reads.append(tensor) or read(tensor))
    first = [op_of("kda")(**x, cu_seqlens=offsets) for _ in range(3)][-1]
    assert len(reads) == 1
    offsets[3] = 9
    second = op_of("kda")(**x, cu_seqlens=offsets)
    assert len(reads) == 2
    assert not torch.equal(first, second)
    assert torch.equal(second, op_of("kda")(**x, cu_seqlens=torch.tensor([0, 4, 4, 9, 23])))


def test_tensors_without_a_version_are_read_every_time():
    x = drawn()
    with torch.inference_mode():
        offsets = torch.tensor(OFFSETS)
        first = op_of("kda")(**x, cu_seqlens=offsets)
        offsets[3] = 9
        assert not torch.equal(first, op_of("kda")(**x, cu_seqlens=offsets))
