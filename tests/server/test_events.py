"""`events.jsonl`, byte for byte: scripts of operators read it, and older and newer versions."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest

from privacy.errors import WireError
from server.event_lines import LoggedEvent, decode_event, encode_event
from server.events import (
    AdapterConfirmed,
    ExchangeFinished,
    NodeRefused,
    PhaseEnded,
    QualityMeasured,
    RoundFailed,
    RoundFinished,
    RoundStarted,
    RunBroken,
    RunEnded,
    RunEvent,
    RunFailed,
    RunFinished,
    RunGoesOn,
    RunPaused,
    RunStarted,
    RunWaiting,
    SessionOpened,
    SiteDropped,
    SiteFinished,
    SiteJoined,
    SiteLeftOut,
    SiteMissing,
    SiteRefused,
    SiteStarted,
    Warned,
    event_names,
)

PLACE = (2, 3, 1)  # round, of how many, attempt
ANSWERS = [
    (
        RunStarted(3, ("harbour", "north"), resumed=False),
        '"run-started","run":"7","rounds":3,"sites":["harbour","north"],"resumed":false',
    ),
    (PhaseEnded("joining", 1.25), '"phase","run":"7","phase":"joining","seconds":1.25'),
    (
        SiteJoined("north", 500, 0.5, 8.0, masked=True),
        '"site-joined","run":"7","site":"north","patients":500,"epsilon":0.5,"budget":8.0,'
        '"masked":true',
    ),
    (
        SiteMissing("north", "No word."),
        '"site-missing","run":"7","site":"north","reason":"No word."',
    ),
    (
        SiteRefused("north", "No word."),
        '"site-refused","run":"7","site":"north","reason":"No word."',
    ),
    (
        NodeRefused("18446744073709551615", "No word."),
        '"node-refused","run":"7","node":"18446744073709551615","reason":"No word."',
    ),
    (
        SiteLeftOut("north", 2, "Late."),
        '"site-left-out","run":"7","site":"north","round":2,"reason":"Late."',
    ),
    (
        RoundStarted(*PLACE, ("north",)),
        '"round-started","run":"7","round":2,"rounds":3,"attempt":1,"sites":["north"],'
        '"unit":"round"',
    ),
    (
        SessionOpened(3, ("harbour", "north"), 1764003600.0, "The run begins."),
        '"session-opened","run":"7","session":3,"sites":["harbour","north"],'
        '"expiry":1764003600.0,"reason":"The run begins."',
    ),
    (
        AdapterConfirmed(("harbour",), 2, "0a", ("north: It was not there.",)),
        '"adapter-confirmed","run":"7","sites":["harbour"],"of":2,"digest":"0a",'
        '"others":["north: It was not there."]',
    ),
    (
        SiteStarted(*PLACE, "north", 0.4),
        '"site-started","run":"7","round":2,"rounds":3,"attempt":1,"site":"north","seconds":0.4',
    ),
    (
        SiteFinished(*PLACE, "north", None, 4.0),
        '"site-finished","run":"7","round":2,"rounds":3,"attempt":1,"site":"north",'
        '"epsilon":null,"seconds":4.0',
    ),
    (
        SiteDropped(*PLACE, "north", "Gone.", "unmask", in_sum=True),
        '"site-dropped","run":"7","round":2,"rounds":3,"attempt":1,"site":"north",'
        '"reason":"Gone.","exchange":"unmask","in_sum":true',
    ),
    (
        ExchangeFinished(*PLACE, "share", 0.75, 3, 2),
        '"exchange-finished","run":"7","round":2,"rounds":3,"attempt":1,"exchange":"share",'
        '"seconds":0.75,"asked":3,"answered":2',
    ),
    (
        RoundFinished(*PLACE, 2, 1.5, 9.25, ("harbour", "north"), masked=False),
        '"round-finished","run":"7","round":2,"rounds":3,"attempt":1,"updates":2,'
        '"adapter_norm":1.5,"seconds":9.25,"sites":["harbour","north"],"masked":false,'
        '"unit":"round"',
    ),
    (
        RoundFinished(*PLACE, 2, 1.5, 9.25, ("harbour", "north"), masked=True, unit="step"),
        '"round-finished","run":"7","round":2,"rounds":3,"attempt":1,"updates":2,'
        '"adapter_norm":1.5,"seconds":9.25,"sites":["harbour","north"],"masked":true,'
        '"unit":"step"',
    ),
    (
        RoundFailed(2, 1, "Too few."),
        '"round-failed","run":"7","round":2,"attempt":1,"reason":"Too few.","unit":"round"',
    ),
    (
        RunFinished("a.safetensors", "s.png", "result.json"),
        '"run-finished","run":"7","adapter":"a.safetensors","samples":"s.png",'
        '"result":"result.json"',
    ),
    (
        RunFailed("Too few.", "Wait.", "too-few-sites"),
        '"run-failed","run":"7","reason":"Too few.","hint":"Wait.","error":"too-few-sites"',
    ),
    (
        QualityMeasured(4, "denoising", 0.25, -0.5, -1.0, None, 7, 9),
        '"quality-measured","run":"7","round":4,"metric":"denoising","value":0.25,"change":-0.5,'
        '"low":-1.0,"high":null,"patients":7,"images":9',
    ),
    (RunWaiting("Disk full."), '"run-waiting","run":"7","reason":"Disk full."'),
    (RunGoesOn(), '"run-goes-on","run":"7"'),
    (RunPaused(), '"run-paused","run":"7"'),
    (RunEnded(2), '"run-stopped","run":"7","rounds_done":2'),
    (RunBroken("Gone."), '"run-interrupted","run":"7","reason":"Gone."'),
    (Warned("\u03b5 is \u221e"), '"warning","run":"7","reason":"\\u03b5 is \\u221e"'),
]


def line(rest: str) -> bytes:
    return f'{{"time":1764000000.125,"event":{rest}}}\n'.encode()


@pytest.mark.parametrize(("event", "rest"), ANSWERS, ids=lambda value: getattr(value, "name", ""))
def test_every_event_has_its_line(event: RunEvent, rest: str) -> None:
    logged = LoggedEvent(1764000000.125, "7", event)
    assert encode_event(LoggedEvent(1764000000.12501, "7", event)) == line(rest)
    assert decode_event(line(rest)) == logged


def test_no_event_is_without_a_known_answer() -> None:
    assert {event.name for event, _ in ANSWERS} == set(event_names())


def test_infinity_is_null() -> None:
    event = SiteJoined("north", 500, math.inf, math.inf, masked=True)
    encoded = encode_event(LoggedEvent(0.0, "7", event))
    assert b'"epsilon":null,"budget":null' in encoded
    decoded = decode_event(encoded)
    assert decoded is not None
    assert decoded.event == SiteJoined("north", 500, None, None, masked=True)


def test_an_event_of_a_newer_version_is_passed_over() -> None:
    assert decode_event(line('"moon-risen","run":"7","phase":9')) is None


@pytest.mark.parametrize(("event", "rest"), ANSWERS, ids=lambda value: getattr(value, "name", ""))
def test_a_field_of_a_newer_version_is_ignored(event: RunEvent, rest: str) -> None:
    decoded = decode_event(line(rest + ',"colour":{"of":"moon"}'))
    assert decoded is not None and decoded.event == event


def test_a_run_of_an_older_version_counts_rounds() -> None:
    decoded = decode_event(
        line('"round-started","run":"7","round":2,"rounds":3,"attempt":1,"sites":["north"]')
    )
    assert decoded is not None and decoded.event == RoundStarted(*PLACE, ("north",), unit="round")


def test_a_line_of_an_older_version_lacks_newer_fields() -> None:
    decoded = decode_event(line('"run-failed","run":"7","reason":"Too few.","hint":"Wait."'))
    assert decoded is not None and decoded.event == RunFailed("Too few.", "Wait.", "")


@pytest.mark.parametrize(("event", "rest"), ANSWERS, ids=lambda value: getattr(value, "name", ""))
def test_a_missing_or_mistyped_field_is_refused(event: RunEvent, rest: str) -> None:
    values = json.loads(line(rest))
    for name in ["time", "run", *(field.name for field in fields(event))]:
        if name not in ("error", "unit"):
            without = {key: value for key, value in values.items() if key != name}
            with pytest.raises(WireError, match=f"{name} is missing"):
                decode_event(json.dumps(without).encode())
        with pytest.raises(WireError, match=f"{name} is of another type"):
            decode_event(json.dumps({**values, name: {"an": "object"}}).encode())


@pytest.mark.parametrize(
    "corrupt",
    [b"", b"{", b"\xff", b"[]", b"null", b'"run-started"', b"{}", b'{"event":3}', b'{"event":{}}'],
)
def test_what_is_not_an_event_is_refused(corrupt: bytes) -> None:
    with pytest.raises(WireError, match=r"A line of events\.jsonl cannot be read"):
        decode_event(corrupt)


@pytest.mark.parametrize("wrong", ["true", '"2"', "2.5", "null"])
def test_numbers_are_not_guessed(wrong: str) -> None:
    with pytest.raises(WireError, match="round is of another type"):
        decode_event(line(f'"round-failed","run":"7","round":{wrong},"attempt":1,"reason":""'))
