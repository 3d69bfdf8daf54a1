"""`craftsfl site log`: who asked what, when, what was refused why, and whether that is whole."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import Final

from rich.table import Table

from client.agent.own_ledger import read_own_ledger
from client.agent.requests import Recorded, RequestsRead, read_requests
from client.agent.state import StateFolder
from client.settings import load_site
from craftsfl.site.desk.standing import reason_words, unrecorded, when
from craftsfl.terminal import output
from privacy.errors import ConfigError, LedgerError

# What the kinds of messages mean to a hospital; one that is not here is shown by its name.
_ASKED: Final = {
    "": "something that is no message",
    "HELLO": "whether the site takes part",
    "TRAIN_MASKED": "to begin an attempt",
    "ADVERTISEMENTS": "for shares of this attempt's keys",
    "DELIVER": "for the masked update",
    "SURVIVORS": "to sign who is in the sum",
    "UNMASK_REQUEST": "for what opens the sum",
    "SESSION_OFFER": "to open a session",
    "SESSION_KEYS": "to deal the session's secret",
    "STEP": "for a sealed step",
    "SEALED_COLLECT": "for the committed vector",
    "SEALED_CLOSE": "to confirm the run's end",
    "RUN_OVER": "to end the run",
}
_GIVEN: Final = {
    "": "no message",
    "REFUSAL": "refused",
    "SECAGG_REFUSAL": "refused",
    "RUNNING": "in work",
    "SIGNED_FACTS": "yes, with the site's signed facts",
    "ADVERTISE": "yes: its keys",
    "SHARE_BUNDLE": "given: shares for the others",
    "MASKED_INPUT": "given: the masked update",
    "CONSISTENCY": "signed",
    "UNMASK": "given",
    "SEALED": "given: the masked vector",
    "SEALED_READY": "given: a commitment",
}
_HEAD: Final = re.compile(r"(\d+):([0-9a-f]{16,64})")


def show_log(site_toml: Path, *, last: int, head: str, as_json: bool) -> None:
    """Print the newest `last` records; `head` is one noted earlier, as it was printed.

    Raises `LedgerError`, after the records, where the log is not as the agent wrote it.
    """
    found = _verified(site_toml)
    console = output()
    if as_json:
        values = [{"number": r.number, "hash": r.hash, **asdict(r.request)} for r in found.records]
        console.print_json(json.dumps(values[-last:]), highlight=False)
    else:
        console.print(_table(found.records[-last:]))
        if found.torn:
            console.print(f"{found.torn} lines were cut off by a crash.", highlight=False)
        console.print(_end(found), highlight=False)
    if found.fault:
        raise _altered(found.fault)
    if head:
        _check_head(head, found)


def _verified(site_toml: Path) -> RequestsRead:
    settings = load_site(site_toml)
    state = StateFolder(settings.agent.state)
    view = read_own_ledger(state, settings)
    if view is None:
        raise ConfigError(
            "No agent has worked here yet: there is no log.",
            "Start one with craftsfl site serve site.toml, or check agent.state in site.toml.",
        )
    found = read_requests(state.requests, view.head().public_key)
    missing = unrecorded(found, view)
    if missing and not found.fault:
        fault = (
            f"The ledger has charged {missing} attempts of which it holds no request: lines were "
            "removed, or could not be written because the disk was full."
        )
        return RequestsRead(found.records, found.torn, fault)
    return found


def _table(records: tuple[Recorded, ...]) -> Table:
    table = Table("when", "run", "round", "attempt", "the coordinator asked", "this site's answer")
    for record in records:
        request = record.request
        answer = _GIVEN.get(request.answer, request.answer.lower().replace("_", " "))
        if request.reason:
            answer = f"{answer}: {reason_words(request.reason)}"
        if request.omitted:
            answer += f" (before it, {request.omitted} requests were not recorded)"
        table.add_row(
            when(request.time),
            *(str(number) if number else "-" for number in _place(record)),
            _ASKED.get(request.kind, request.kind.lower().replace("_", " ")),
            answer,
        )
    return table


def _place(record: Recorded) -> tuple[int, int, int]:
    request = record.request
    return request.run, request.round, request.attempt


def _end(found: RequestsRead) -> str:
    if not found.records:
        return "Nothing was asked yet."
    newest = found.records[-1]
    return (
        f"Each record is signed and follows from the one before. The newest is "
        f"{newest.number}:{newest.hash[:16]}; note that elsewhere, and --head tells later whether "
        "it is still in the log."
    )


def _check_head(head: str, found: RequestsRead) -> None:
    match = _HEAD.fullmatch(head)
    if match is None:
        raise ConfigError("--head is no head of a log.", "Give it as it was printed: NUMBER:HASH.")
    number, digest = int(match[1]), match[2]
    if number >= len(found.records) or not found.records[number].hash.startswith(digest):
        raise _altered(f"Record {head}, which you noted, is not in it.")
    output().print(f"Record {head} is still in the log.", highlight=False)


def _altered(fault: str) -> LedgerError:
    return LedgerError(
        f"The log of requests is not as the agent wrote it. {fault}",
        "Find out who could write into the state folder. The ledger, which counts the budget, is "
        "checked by itself: craftsfl site budget site.toml.",
    )
