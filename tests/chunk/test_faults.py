"""Faults put into emitted modules are found by the comparison that the differential tests use.

A module is changed in one place at a time, the way a wrong compiler would: a value off by one part in a million, a
decay dropped, a sum's sign turned, positions compared one edit late. The judge is `harness.differences`: its tolerances
must be tight enough for each of them. A fault that makes the module raise is found as well.
"""

import ast
import copy
import types

import pytest
import torch
from differential.harness import Case, differences, op_of

NAMES = ("gated_deltanet", "kda", "gated_delta_product", "rwkv7", "hgrn2")
CASE = Case(2, 17, 2, (5, 4, 3), 5, "mild")
CHUNKED = ("_forward_rows", "_forward", "_backward_rows", "_backward")
POSITIONS = ("_mask", "_points")


def off(value):
    """What a faulty statement makes: a little more than it should."""
    return value * (1 + 1e-6) if isinstance(value, torch.Tensor) and value.is_floating_point() else value


def loaded(name, tree):
    module = types.ModuleType(name)
    module.off = off
    exec(compile(tree, f"{name}.py", "exec"), module.__dict__)
    return getattr(module, name)


def is_kernel(node):
    return isinstance(node, ast.FunctionDef) and any(ast.unparse(d) == "_jit" for d in node.decorator_list)


def found(name, tree):
    """Whether the comparison notices."""
    ast.fix_missing_locations(tree.changed)
    try:
        return not all(d.holds for d in differences(name, CASE, op=loaded(name, tree)))
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError):
        return True


def places(name, functions, is_place):
    """The module's tree again and again, each time with one node of those functions to be changed in place.

    Only the statement of the module that it is in (`changed`) is a copy; a module has ten thousands of nodes. Kernels
    are left out: Triton takes no code without a file.
    """
    body = [node for node in ast.parse(op_of(name).source).body if not is_kernel(node)]

    def nodes(of):
        bodies = [f for f in ast.walk(of) if isinstance(f, ast.FunctionDef) and f.name in functions]
        return [node for body in bodies for node in ast.walk(body) if is_place(node)]

    for at, statement in enumerate(body):
        for number in range(len(nodes(statement))):
            mutant = ast.Module([*body[:at], copy.deepcopy(statement), *body[at + 1 :]], [])
            mutant.changed = mutant.body[at]
            yield mutant, nodes(mutant.changed)[number]


def is_value(node):
    """An assignment of what may be a tensor, but no buffer that is filled later."""
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    text = ast.unparse(node.value)
    return not any(word in text for word in ("new_empty", "new_zeros", "zeros(", "empty("))


@pytest.mark.parametrize("name", ["kda", "gated_delta_product"])
def test_a_value_off_by_a_millionth(name):
    missed, count = [], 0
    for tree, node in places(name, CHUNKED, is_value):
        shown, count = ast.unparse(node), count + 1
        node.value = ast.Call(ast.Name("off", ast.Load()), [node.value], [])
        if not found(name, tree):
            missed.append(shown)
    assert count > 20
    # Integers and flags are not changed by `off`: what is missed must be one of those.
    numbers = [
        m for m in missed if not any(w in m for w in ("_to_rows", "exp", "@", "_at(", "_gate_sums(", "_bar", "_dot"))
    ]
    assert missed == numbers, "\n".join(m for m in missed if m not in numbers)


@pytest.mark.parametrize("name", NAMES)
def test_a_decay_dropped(name):
    def is_decay(node):
        return isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.exp", "_decays")

    count = 0
    for tree, node in places(name, CHUNKED, is_decay):
        count += 1
        node.func = ast.parse("torch.ones_like", mode="eval").body
        assert found(name, tree), ast.unparse(node)
    assert count >= 2


@pytest.mark.parametrize("name", NAMES)
def test_a_sign_turned(name):
    def is_sum(node):
        return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)

    count = 0
    for tree, node in places(name, CHUNKED, is_sum):
        shown, count = ast.unparse(node), count + 1
        node.op = ast.Sub() if isinstance(node.op, ast.Add) else ast.Add()
        # Positions are taken for masks or for gates, and turned ones may leave either as it is.
        assert found(name, tree) or shown in ("1 + r", "R + 1"), shown
    assert count >= 5


@pytest.mark.parametrize("name", NAMES)
def test_positions_compared_one_late(name):
    """In masks and program points: a read misses the write or the gate that comes just before it."""

    def is_order(node):
        return isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Lt | ast.Gt)

    count = 0
    for tree, node in places(name, POSITIONS, is_order):
        shown, count = ast.unparse(node), count + 1
        smaller = isinstance(node.ops[0], ast.Lt)
        late = ast.BinOp(node.left if smaller else node.comparators[0], ast.Add(), ast.Constant(1))
        node.left, node.comparators = (late, node.comparators) if smaller else (node.left, [late])
        assert found(name, tree), shown
    assert count >= 3


@pytest.mark.parametrize("name", NAMES)
def test_nothing_changed_is_nothing_found(name):
    tree, _ = next(places(name, CHUNKED, is_value))
    assert not found(name, tree)
