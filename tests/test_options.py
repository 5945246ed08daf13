"""Options refuse what they do not allow, by name, and round-trip through their record."""

import pytest

from flowc.options import Options, option_names


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("chunk_size", 0, "chunk_size is 0; allowed: an integer from 1"),
        ("chunk_size", -4, "chunk_size is -4"),
        ("chunk_size", True, "chunk_size is True"),
        ("chunk_size", "64", "chunk_size is '64'"),
        ("aggregation", "magic", "aggregation is 'magic'; allowed: 'auto', 'wy', 'tensorinv', 'signature'"),
        ("backend", "cuda", "backend is 'cuda'; allowed: 'auto', 'torch', 'triton'"),
        ("schedule", "merged", "schedule is 'merged'; allowed: 'auto', 'split', 'fused'"),
    ],
)
def test_a_bad_value_is_refused_by_name(name, value, words):
    with pytest.raises(ValueError, match=words):
        Options(**{name: value})


def test_unknown_option():
    with pytest.raises(ValueError, match="'chunk' is no option; options: chunk_size, aggregation, schedule, backend"):
        Options().replaced({"chunk": 3})


def test_none_leaves_an_option():
    chosen = Options(chunk_size=32, backend="torch")
    assert chosen.replaced({"chunk_size": None, "aggregation": "wy"}) == Options(
        chunk_size=32, backend="torch", aggregation="wy"
    )


def test_record_gives_the_options_back():
    chosen = Options(chunk_size=16)
    assert Options(**chosen.record()) == chosen
    assert tuple(chosen.record()) == option_names()
