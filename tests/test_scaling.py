"""`flowc explain --scaling`: counts, times, JSON and a picture; what it refuses."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner

from flowc.chunk.aggregation import AGGREGATIONS, formed, inverse_flops, solve_products
from flowc.cli import cli
from flowc.compiler import Stage, compile_text
from flowc.options import Options
from flowc.report import scaling as scaled
from flowc.report.curves import Panel, svg
from flowc.runtime.load import load
from flowc.source import Source

EXAMPLES = Path(__file__).parent.parent / "examples"
RANKED, PLAIN, GATED = (str(EXAMPLES / f"{n}.flow") for n in ("gated_delta_product", "deltanet", "gla"))


def run(*arguments):
    return CliRunner().invoke(cli, ["explain", *map(str, arguments)])


def compilation(path, stage=Stage.PLAN):
    return compile_text(Source(path, Path(path).read_text()), Options(), stage)


@pytest.mark.parametrize("rows", [1, 16, 40, 64, 256])
def test_what_each_takes_by_formula(rows):
    """design/algebra.md section 4: n^3/3, 2 n^3/3 and 85 n to form; n^2 V to solve, 2 n^2 V as one dense product."""
    columns, blocks = 8, -(-rows // 16)
    size = 1 << (rows - 1).bit_length()
    assert inverse_flops("wy", rows) == rows * (rows - 1) * (2 * rows - 1) // 6
    assert inverse_flops("tensorinv", rows) == 2 * (size**3 - size) // 3
    if rows >= 16:
        assert inverse_flops("signature", rows) == blocks * 1240  # of 16 rows, 77.5 for each
    assert sum(solve_products("wy", rows, columns)) == sum(solve_products("tensorinv", rows, columns))
    if rows % 16 == 0:
        assert sum(solve_products("signature", rows, columns)) == (rows * rows + 16 * rows) * columns
    assert [len(solve_products(a, rows, columns)) for a in AGGREGATIONS] == [1, 1, 2 * blocks - 1]
    assert {a: formed(a, rows).entries for a in AGGREGATIONS} == {
        "wy": rows * rows,
        "tensorinv": rows * rows,
        "signature": blocks * min(rows, 16) ** 2,
    }


def test_an_unknown_aggregation_is_refused():
    with pytest.raises(ValueError, match="no aggregation 'lu'"):
        inverse_flops("lu", 16)


def test_sweeps_are_of_chunks_ranks_and_lengths():
    found = scaled.scaling(compilation(RANKED))
    chunks, ranks, lengths = found.sweeps
    assert [s.chunk for s in chunks.settings] == [16, 32, 64, 128, 256]
    assert [(s.rank, s.rows) for s in ranks.settings] == [(1, 64), (2, 128), (4, 256)]
    assert [s.length for s in lengths.settings] == [1024, 4096, 16384]
    for sweep in found.sweeps:
        assert sweep.growth("signature", False) <= sweep.growth("wy", False) <= sweep.growth("tensorinv", False)
    assert all(lengths.growth(a, False) == pytest.approx(1) for a in AGGREGATIONS)
    for setting in (s for sweep in found.sweeps for s in sweep.settings if s.rows > 16):
        wy, tensorinv, signature = setting.ways
        assert signature.flops < wy.flops < tensorinv.flops
        assert signature.formed.entries < wy.formed.entries == tensorinv.formed.entries
        assert signature.products > wy.products == tensorinv.products == 1


def test_rows_that_are_given_are_not_varied():
    assert [s.varied for s in scaled.scaling(compilation(PLAIN)).sweeps] == ["C", "L"]


def test_text_json_and_picture(tmp_path):
    picture = tmp_path / "new" / "scaling.svg"
    done = run(RANKED, "--scaling", "--plot", picture)
    assert done.exit_code == 0, done.output
    assert "sigDelta" in done.stdout
    assert done.stdout.count("signature") == 11 + 3
    root = ElementTree.parse(picture).getroot()
    assert len(root.findall("{*}polyline")) == 9
    assert {"wy", "tensorinv", "signature"} <= {t.text for t in root.findall("{*}text")}
    record = json.loads(run(RANKED, "--scaling", "--json").stdout)
    assert [s["varied"] for s in record["sweeps"]] == ["C", "R", "L"]
    assert [s["algorithm"] for s in record["stated"]] == ["tensorInv", "sigDelta"]
    ways = record["sweeps"][0]["settings"][2]["aggregations"]
    assert [w["formed"] for w in ways] == [{"inverses": n, "rows": r} for n, r in ((1, 64), (1, 64), (4, 16))]


def test_measured(monkeypatch, tmp_path):
    """Times of everything counted; more of it takes longer."""
    monkeypatch.setattr(scaled, "CHUNKS", (16, 64))
    monkeypatch.setattr(scaled, "LENGTH", 256)
    monkeypatch.setattr(scaled, "LENGTHS", (128, 2048))
    made = compilation(RANKED, Stage.MODULE)
    found = scaled.scaling(made, load(made.artifact))
    assert all(w.seconds > 0 for sweep in found.sweeps for s in sweep.settings for w in s.ways)
    assert all(found.sweeps[-1].growth(a, True) > 0.3 for a in AGGREGATIONS)
    assert "ms" in str(found)
    assert len(found.panels()) == 6
    assert "seconds" in found.record()["sweeps"][0]["growth"]["wy"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((GATED, "--scaling"), "gla: no edit reads the state, so there is no system to solve"),
        ((RANKED, "--measure"), "--measure and --plot go with --scaling"),
        ((RANKED, "--plot", "x.svg"), "--measure and --plot go with --scaling"),
        ((RANKED, "--scaling", "--plot", "x.png"), "x.png: it writes SVG; call the file NAME.svg"),
    ],
)
def test_what_is_refused(arguments, words):
    done = run(*arguments)
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


def test_a_picture_of_one_point():
    """No division by nothing, and names are escaped."""
    text = svg([Panel("a < b", "n", {"one": [(2.0, 1.0)]})], "<title>")
    assert ElementTree.fromstring(text) is not None
    assert "&lt;title&gt;" in text
