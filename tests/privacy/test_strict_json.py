"""Others' JSON: how much of it is read."""

import pytest

from privacy import strict_json
from privacy.strict_json import read_json


def test_very_many_values_are_refused_before_they_are_read() -> None:
    """Each empty list takes sixty bytes in memory, and two in the text."""
    many = "[" + "[]," * (1 << 22) + "[]]"
    with pytest.raises(ValueError, match="too many values"):
        read_json(many)


def test_a_long_text_of_few_values_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(strict_json, "_MOST_VALUES", 3)
    assert read_json('["abcdef",1,2]') == ["abcdef", 1, 2]
    with pytest.raises(ValueError, match="too many values"):
        read_json('["abcdef",1,2,3]')
