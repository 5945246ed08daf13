"""Specs that mean harm: none runs code, writes files, hangs or takes the memory; most are refused in their own words.

Each runs in a child with a time and a memory limit, in an empty folder. The limits are those of a hang: a compilation
takes some tenths of a second.
"""

import os
import resource
import signal
import sys
import traceback

import pytest

import flowc
from flowc.diagnostics import FlowError

SECONDS, BYTES = 20, 8 << 30
HEAD = "flow f(K, V)\ninput q, k : K; input v : V\nstate S : K x V\n"
WRITE = "S[t] = S[t-1] + k @ v.T\n"
OUT = "o[t] = S[t].T @ q\n"
PLAIN = HEAD + WRITE + OUT


def output(value):
    return f"{HEAD}{WRITE}o[t] = {value}\n"


def lets(first, step, count, last="o[t] = S[t].T @ x{}\n"):
    chain = "".join(f"let x{i} = {first if i == 0 else step.format(f'x{i - 1}')}\n" for i in range(count))
    return HEAD + chain + WRITE + last.format(count - 1)


def states(count):
    names = [f"S{i}" for i in range(count)]
    declared = "".join(f"state {n} : K x V\n" for n in names)
    return HEAD + declared + "".join(f"{n}[t] = {n}[t-1] + k @ v.T\n" for n in names) + WRITE + OUT


REFUSED = {  # by what the first diagnostic is
    "import": (output("__import__('os').system('touch pwned')"), "F101"),
    "attribute": (output("S[t].__class__ @ q"), "F108"),
    "template": (output("{{ 7 * 7 }} @ q"), "F101"),
    "semicolon": (output("S[t].T @ q; import os"), "F101"),
    "path as a name": (PLAIN.replace("flow f", "flow ../../f"), "F101"),
    "NUL": (PLAIN + "\0", "F102"),
    "form feed": ("# \x0c\n" + PLAIN, "F102"),
    "deep brackets": (output("(" * 5000 + "S[t].T @ q" + ")" * 5000), "F104"),
    "deep calls": (output("exp(" * 3000 + "q" + ")" * 3000), "F104"),
    "deep negation": (output("-" * 5000 + "v"), "F104"),
    "long sum": (HEAD + "S[t] = S[t-1]" + " + k @ v.T" * 5000 + "\n" + OUT, "F104"),
    "huge power of ten": (output("S[t].T @ q * 1e999999999"), "F107"),
    "power of ten beyond Decimal": (output("S[t].T @ q * 1e" + "9" * 30), "F107"),
    "power": (output("S[t].T @ q * 2**1000000000"), "F107"),
    "tower": (output("S[t].T @ q * 9**9**9**9**9"), "F107"),
    "lets of powers": (HEAD + "let a = 9**9\nlet b = a**a\nS[t] = S[t-1] + b * k @ v.T\n" + OUT, "F107"),
    "long number": (output("S[t].T @ q * " + "9" * 60000), "F107"),
    "long text": (PLAIN + "#" * 70000, "F103"),
    "ten thousand states": (states(10000), "F103"),
    "a thousand states": (states(1000), "F111"),
    "a thousand statements": (PLAIN + "S[t] = S[t] + k @ v.T\n" * 1000, "F111"),
    "doubling lets": (lets("q", "{0} + {0}", 60), "F112"),
    "squared lets": (lets("q", "{0} * {0}", 100), "F112"),
    "lets of concats": (lets("q", "concat({0}, {0})", 25, OUT), "F112"),
    "lets of products": (lets("k @ k.T", "{0} @ {0}", 30, "o[t] = S[t].T @ (x{} @ q)\n"), "F112"),
    "lets of norms": (lets("q", "l2norm({0}) + {0}", 40), "F112"),
    "products of sums": (HEAD + "S[t] = " + "(I - k @ k.T) @ " * 20 + "S[t-1] + k @ v.T\n" + OUT, "F601"),
    "huge size": (PLAIN.replace("input v : V", "input v : V; input z : " + "9" * 20), "F501"),
}
COMPILED = {
    "comments": '# """ + __import__("os").system("touch pwned") + """\n# \\N{BULLET} {{ 1 }} {% for %} \\\n' + PLAIN,
    "names": PLAIN.replace("q", "os").replace("k", "open").replace("v", "eval"),
    "a doubling state": HEAD + WRITE + "S[t] = S[t] + S[t]\n" * 200 + OUT,
    "deltas of one key": HEAD + WRITE + "S[t] = S[t] - k @ (S[t].T @ k).T\n" * 40 + OUT,
    "reads of reads": HEAD
    + WRITE
    + "".join(f"let r{i} = S[t].T @ q\nS[t] = S[t] + k @ r{i}.T\n" for i in range(20))
    + OUT,
    "a gate of a gate": lets("sum(q)", "sigmoid({0}) * {0} + {0}", 7, "o[t] = x{} * S[t].T @ q\n"),
    "many functions": output("S[t].T @ (" + " + ".join(f"{i} * exp({i} * q)" for i in range(180)) + ")"),
    "a huge repeat": "flow f(K, V, R = 100000)\ninput q, k : K; input v : V; input b : R of scalar\nstate S : K x V\n"
    "S[t] = S[t-1]\nrepeat r in R:\n    S[t] = S[t] + b[r] * k @ v.T\n" + OUT,
}


@pytest.fixture(scope="module", autouse=True)
def _loaded():
    """Everything that a child would import."""
    flowc.compile(PLAIN)


def in_a_child(folder, run):
    """What `run` returned as a text, in a process with limits; `folder` is where it is."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.chdir(folder)
            signal.alarm(SECONDS)
            resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
            os.write(write, run().encode())
        except BaseException:
            os.write(write, traceback.format_exc()[-2000:].encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return said if status == 0 else f"ended by signal {status & 0x7F}"


def outcome(text):
    try:
        flowc.compile(text)
    except FlowError as error:
        return error.diagnostics[0].code
    return "compiled"


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, tmp_path):
    text, code = REFUSED[name]
    assert in_a_child(tmp_path, lambda: outcome(text)) == code
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("name", COMPILED)
def test_compiled_and_harmless(name, tmp_path, monkeypatch):
    monkeypatch.setenv("FLOWC_CACHE_DIR", str(tmp_path / "cache"))
    assert in_a_child(tmp_path, lambda: outcome(COMPILED[name])) == "compiled"
    assert {path.name for path in tmp_path.iterdir()} <= {"cache"}


def test_invalid_utf8_is_said(tmp_path):
    path = tmp_path / "spec.flow"
    path.write_bytes(PLAIN.encode() + b"# \xff\xfe\n")
    with pytest.raises(ValueError, match=r"spec\.flow"):
        flowc.compile(path)
