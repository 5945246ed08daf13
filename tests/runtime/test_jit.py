"""A decorated function is the op of its spec, and what it cannot be is said where the function stands."""

import functools
import importlib.util
import inspect
import linecache
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from differential.harness import EXAMPLES, TEXTS, Case, draw, model_of
from runtime import decorated
from syntax.as_python import as_python

import flowc
from flowc.options import option_names

ROOT = Path(__file__).parents[2]
BY_HAND = ("gated_deltanet", "gated_delta_product", "rwkv6", "retnet")


def imported(path: Path, text: str):
    """The module of a file with `text`."""
    path.write_text(text)
    return imported_from(path)


def imported_from(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """All examples, written as decorated functions into one file and imported."""
    functions = (as_python(model_of(name).canonical) for name in EXAMPLES)
    return imported(tmp_path_factory.mktemp("jit") / "all_examples.py", "\n\n".join(("import flowc\n", *functions)))


# -- the same op -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_gives_the_same_module_both_ways(name, written):
    op = getattr(written, name)
    assert type(op) is flowc.Op
    assert op.source == flowc.compile(TEXTS[name]).source
    assert op.spec == model_of(name).canonical


@pytest.mark.parametrize("name", BY_HAND)
def test_by_hand(name):
    op = getattr(decorated, name)
    same = flowc.compile(TEXTS[name], chunk_size=16 if name == "retnet" else None)
    assert op.source == same.source


def test_the_examples_in_python():
    """They are those of the same names, but for the title."""
    path = ROOT / "examples/decorated.py"
    module = imported_from(path)
    ops = {name: op for name, op in vars(module).items() if isinstance(op, flowc.Op)}
    assert len(ops) >= 3
    for name, op in ops.items():
        doc, same = op.spec.split("\n", 1), model_of(name).canonical.split("\n", 1)
        assert doc[1] == same[1]
        x = {i: value.float() for i, value in draw(model_of(name), Case(length=40)).items()}
        torch.testing.assert_close(op(**x), flowc.compile(TEXTS[name])(**x), rtol=0, atol=0)


def test_prev_is_the_state_before_the_token():
    """Written apart, the gate and the read of the old state are what comba writes in one line."""
    x = {name: value.float() for name, value in draw(model_of("comba"), Case(length=40)).items()}
    torch.testing.assert_close(decorated.comba(**x), flowc.compile(TEXTS["comba"])(**x))
    assert "prev" not in decorated.comba.spec
    assert "S[t-1].T @ p" in decorated.comba.spec


def test_a_function_is_checked_without_compiling_it():
    """For `flowc.reference`, which runs what has no compiled form."""
    model = flowc.load(decorated.mlstm)
    assert model.canonical == flowc.load(ROOT / "examples/mlstm.flow").canonical
    with pytest.raises(flowc.FlowError, match=r"F601.*\n +--> .*decorated\.py:\d+:\d+"):
        flowc.jit(decorated.squashed_in_rounds)
    with pytest.raises(TypeError, match="expected a function that is written in Python, not Op"):
        flowc.load(decorated.comba)


def test_explanations_and_pickles_know_the_function():
    op = decorated.gated_deltanet
    line = next(i for i, text in enumerate(Path(decorated.__file__).read_text().split("\n"), 1) if "beta * k" in text)
    assert f"decided at {decorated.__file__}:{line}:5" in op.explain()
    assert f"  {line} |     S = S + beta * k @ (v - S.T @ k).T" in op.explain()
    assert pickle.loads(pickle.dumps(op)).source == op.source


def test_options_are_those_of_compile():
    for function in (flowc.jit, flowc.compile):
        taken = inspect.signature(function).parameters.values()
        assert tuple(p.name for p in taken if p.kind is p.KEYWORD_ONLY) == (*option_names(), "certify")
    assert "'chunk_size': 16" in decorated.retnet.source or '"chunk_size": 16' in decorated.retnet.source
    with pytest.raises(ValueError, match="backend is 'cuda'"):
        flowc.jit(backend="cuda")


# -- where the source comes from ---------------------------------------------------------------------------------------

FUNCTION = """
def f(S: "state K x V", k: "K", v: "V"):
    S = S + k @ v.T
    return S, S.T @ k
"""


def test_functions_in_functions_and_classes(tmp_path):
    text = "import flowc\ndef make():\n    class A:\n        @staticmethod\n        @flowc.jit\n"
    text += FUNCTION.replace("\n", "\n        ").replace("\n        \n", "\n").lstrip("\n") + "\n    return A\n"
    module = imported(tmp_path / "inner.py", text)
    assert module.make().f.spec.startswith("flow f(K, V)\n")


def test_two_functions_of_a_name(tmp_path):
    text = "import flowc\n@flowc.jit" + FUNCTION + "g = f\n@flowc.jit" + FUNCTION.replace("k @ v.T", "2 * k @ v.T")
    module = imported(tmp_path / "twice.py", text)
    assert "2 * k @ v.T" in module.f.spec
    assert "2 * k @ v.T" not in module.g.spec


def test_a_cell_of_a_notebook():
    """IPython and doctest put their cells where `inspect` finds them."""
    name, text = "<ipython-input-7>", "import flowc\n@flowc.jit" + FUNCTION
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    space = {"__name__": "__main__"}
    exec(compile(text, name, "exec"), space)
    assert space["f"].spec.startswith("flow f(K, V)\n")


def test_no_source():
    space = {}
    exec(FUNCTION, space)
    with pytest.raises(OSError, match=r"^f \(<string>:2\) is read from its source, and there is none at hand: put the"):
        flowc.jit(space["f"])


def test_the_interactive_prompt():
    """Python 3.13 keeps what is typed there; before, there is no source."""
    text = (
        "import flowc\n"
        + FUNCTION.lstrip()
        + "\ntry:\n    print(flowc.jit(f).spec[:4])\nexcept OSError as e:\n    print(e)\n\n"
    )
    done = subprocess.run(
        [sys.executable, "-i", "-q"], input=text, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.stdout.startswith(
        "f (<stdin>:1) is read from its source, and there is none" if sys.version_info < (3, 13) else "f"
    )


def test_a_file_that_has_changed(tmp_path):
    module = imported(tmp_path / "changed.py", FUNCTION)
    (tmp_path / "changed.py").write_text("\n# moved\n" + FUNCTION)
    with pytest.raises(
        OSError, match=r"^f \(.*changed\.py:2\) is no longer what its file has there: load the file again"
    ):
        flowc.jit(module.f)
    (tmp_path / "changed.py").write_text(FUNCTION.replace('k: "K"', 'key: "K"'))
    with pytest.raises(OSError, match="is no longer what its file has there"):
        flowc.jit(module.f)


# -- what is no function to read ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (3, "expected a function that is written in Python, not int"),
        (print, "expected a function that is written in Python, not builtin_function_or_method"),
        (torch.nn.Linear, "expected a function that is written in Python, not type"),
        (functools.partial(print), "expected a function that is written in Python, not partial"),
        ("examples/kda.flow", "flowc.jit takes a function; flowc.compile takes a path or a text"),
    ],
)
def test_what_is_no_function(what, words):
    with pytest.raises(TypeError) as caught:
        flowc.jit(what)
    assert str(caught.value) == words


def test_another_decorator(tmp_path):
    text = "import flowc, torch\n@flowc.jit\n@torch.no_grad()" + FUNCTION
    with pytest.raises(flowc.FlowError) as caught:
        imported(tmp_path / "wrapped.py", text)
    assert str(caught.value) == "\n".join(
        (
            "error[F707]: `f` is wrapped by another decorator",
            f" --> {tmp_path}/wrapped.py:3:2",
            "  |",
            "3 | @torch.no_grad()",
            "  |  ^^^^^^^^^^^^^^^",
            "  = help: remove it: the function is never run",
        )
    )


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters came with Python 3.12")
def test_type_parameters(tmp_path):
    text = "import flowc\n@flowc.jit" + FUNCTION.replace("def f(", "def f[K](")
    with pytest.raises(flowc.FlowError, match=r"F707\]: `f` has type parameters"):
        imported(tmp_path / "parameters.py", text)


def test_errors_come_where_the_function_is_decorated(tmp_path):
    with pytest.raises(flowc.FlowError) as caught:
        imported(tmp_path / "wrong.py", "import flowc\n@flowc.jit" + FUNCTION.replace("k @ v.T", "k @ w.T"))
    assert f"error[F201]: nothing is named `w`\n --> {tmp_path}/wrong.py:4:17\n" in str(caught.value)
