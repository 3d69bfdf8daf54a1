"""TOML of others is read in a time that its length bounds."""

import pytest

from privacy.strict_toml import read_toml


@pytest.mark.parametrize(
    "text",
    [
        ".".join(["a"] * 300_000) + " = 1",
        "[" + ".".join(["a"] * 300_000) + "]",
        "x = { " + " . ".join(['"a b"'] * 300_000) + " = 1 }",
        ".".join(["'a'"] * 300_000) + " = 1",
    ],
)
def test_a_key_of_very_many_parts_is_refused_at_once(text: str) -> None:
    with pytest.raises(ValueError, match="too many parts"):
        read_toml(text)


def test_a_mark_that_nobody_sees_is_passed_over() -> None:
    """Windows' editors begin a file with it. Elsewhere in a file it stays a mistake."""
    assert read_toml("\ufeffepsilon = 8.0\n") == {"epsilon": 8.0}
    with pytest.raises(ValueError, match="Invalid statement"):
        read_toml("\ufeff\ufeffepsilon = 8.0\n")


def test_everything_else_is_as_it_was() -> None:
    sentences = " ".join(f"Word. And 1.5 more{i}." for i in range(50))
    text = f'a.b.c = 1\nprompts = ["{sentences}", "a.b.c.d.e"]\nlong = "{"a" * 100_000}"\n'
    found = read_toml(text)
    assert found["a"] == {"b": {"c": 1}}
    assert found["prompts"][0] == sentences
    for odd in ("a = ", "a = 1\na = 2", "\x00"):
        with pytest.raises(ValueError):
            read_toml(odd)
