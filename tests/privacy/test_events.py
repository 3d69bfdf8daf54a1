from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy.errors import AccountingError
from privacy.mechanisms.local import PoissonGaussian
from privacy.mechanisms.registry import event_from_json

GOOD = {"sampling_rate": 0.5, "noise_multiplier": 4.0, "clipping_norm": 0.1, "steps": 10}
TEXT = (
    '{"clipping_norm":0.1,"event":"poisson-gaussian","neighbouring":"zero-out",'
    '"noise_multiplier":4.0,"sampling_rate":0.5,"steps":10,"unit":"patient","version":1}'
)


def test_json_is_canonical_and_pinned() -> None:
    assert PoissonGaussian(**GOOD).to_json() == TEXT
    assert event_from_json(TEXT) == PoissonGaussian(**GOOD)


@given(
    st.floats(1e-6, 1),
    st.one_of(st.just(0.0), st.floats(0.01, 1e4)),
    st.floats(1e-300, 1e6),
    st.integers(1, 1_000_000),
)
def test_json_round_trip_is_exact(q: float, sigma: float, clip: float, steps: int) -> None:
    event = PoissonGaussian(q, sigma, clip, steps)
    assert event_from_json(event.to_json()) == event


BAD_FLOATS = [-1.0, math.nan, math.inf, -math.inf, 1e300, 10**400, True, False, "1", None]


@pytest.mark.parametrize("key", ["sampling_rate", "noise_multiplier", "clipping_norm"])
@pytest.mark.parametrize("value", BAD_FLOATS)
def test_bad_figures_are_refused_by_name(key: str, value: object) -> None:
    with pytest.raises(AccountingError, match=key):
        PoissonGaussian(**{**GOOD, key: value})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sampling_rate", 0.0),
        ("sampling_rate", 1.0000001),
        ("sampling_rate", True),
        ("noise_multiplier", 0.001),
        ("clipping_norm", 0.0),
        ("steps", 0),
        ("steps", 1.0),
        ("steps", True),
        ("steps", 10**9),
        ("unit", "tile"),
        ("neighbouring", "add-or-remove"),
    ],
)
def test_more_bad_figures(key: str, value: object) -> None:
    with pytest.raises(AccountingError, match=key):
        PoissonGaussian(**{**GOOD, key: value})


def test_no_noise_is_a_fact_of_the_record() -> None:
    assert PoissonGaussian(**{**GOOD, "noise_multiplier": 0.0}).no_privacy
    assert not PoissonGaussian(**GOOD).no_privacy


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"event": "laplace"}, "laplace"),
        ({"version": 2}, "version 2"),
        ({"extra": 1}, "extra"),
        ({"steps": "10"}, "steps"),
        ({"steps": True}, "steps"),
        ({"sampling_rate": None}, "sampling_rate"),
        ({"unit": ["patient"]}, "unit"),
    ],
)
def test_unknown_records_are_refused_by_name(change: dict[str, object], text: str) -> None:
    with pytest.raises(AccountingError, match=text):
        event_from_json(json.dumps({**json.loads(TEXT), **change}))


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "1", "{", '{"steps":1,"steps":1}', TEXT.replace("4.0", "NaN")),
        *("[" * 4000, '{"a":' * 700, TEXT.replace("4.0", "9" * 3000), TEXT.replace("4.0", "1e999")),
    ],
)
def test_damaged_records_are_refused(text: str) -> None:
    with pytest.raises(AccountingError):
        event_from_json(text)


def test_records_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        PoissonGaussian(**GOOD).steps = 1  # type: ignore[misc]
