"""Why a message or a request is refused: a closed set, because free text could hold anything."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from privacy.errors import WireError


class Reason(IntEnum):
    """All that a site, or its forwarder, can say in a refusal. Numbers never change."""

    MALFORMED = 1
    TOO_LARGE = 2
    UNKNOWN_KIND = 3
    WRONG_STUDY = 4
    WRONG_LAYOUT = 5
    NOT_NEWER = 6
    CONFLICT = 7
    NOT_STARTED = 8
    BUDGET = 9
    POLICY = 10
    STOPPED = 11
    NO_UPDATE = 12
    AGENT_UNREACHABLE = 13
    AGENT_SILENT = 14
    NOT_READY = 15
    INTERNAL = 16
    OLDER_RUN = 17
    RUN_OPEN = 18
    CANNOT_FINISH = 19
    RUN_TOO_FAR = 20
    WRONG_ROSTER = 21
    OTHER_VERSION = 22
    MISSING_SUMS = 23
    PAUSED = 24
    LEFT = 25


class RefusedMessage(WireError):
    """Bytes that are not a message of this protocol, with the `reason` to answer their sender."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(
            message,
            "Nothing was changed. Check that both ends run the same version.",
            id=reason_id(reason),
        )
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Guidance:
    """What a reason means to an operator: what happened, what was lost, what to do next."""

    happened: str
    lost: str
    next_step: str


_NOTHING = "Nothing: the message changed no state."
_UPDATE = "This site's update of the attempt; the round continues if enough other sites remain."
_PART = "This site's part in the run until that is fixed."

_EXPLANATIONS = {
    Reason.MALFORMED: Guidance(
        "What arrived was not a message of this protocol.",
        _NOTHING,
        "Install the same craftsfl version at the server and the site.",
    ),
    Reason.TOO_LARGE: Guidance(
        "The message was larger than the study's adapter allows.",
        _NOTHING,
        "Compare the study files of the server and the site.",
    ),
    Reason.UNKNOWN_KIND: Guidance(
        "The receiver does not know or expect this kind of message.",
        _NOTHING,
        "Install the same craftsfl version at the server and the site.",
    ),
    Reason.WRONG_STUDY: Guidance(
        "The site takes part in another study, or in another version of this one.",
        _PART,
        "Each site joins with the newest invitation (craftsfl site join), then craftsfl site serve "
        "or reload; without invitations, give it the study file that the server reads.",
    ),
    Reason.WRONG_LAYOUT: Guidance(
        "The site's model has another adapter layout.",
        _PART,
        "Compare the base model's digest and the adapter settings of the study.",
    ),
    Reason.NOT_NEWER: Guidance(
        "The site has already seen a later round or attempt.",
        _UPDATE,
        "Let the newer attempt finish. If the coordinator's state was put back from a copy, that "
        "is older than the site's ledger: put a newer one back, or start a new run.",
    ),
    Reason.CONFLICT: Guidance(
        "The site was already asked for this attempt, with other contents.",
        _UPDATE,
        "Start a new attempt or a new run.",
    ),
    Reason.NOT_STARTED: Guidance(
        "The site does not know this attempt, for instance because its agent was restarted.",
        "This site's update of the attempt, and any budget charged for it.",
        "The server starts a new attempt if the study allows one.",
    ),
    Reason.BUDGET: Guidance(
        "The round would exceed the site's privacy budget, so the site did not train.",
        "This site's part in the rest of the study. Nothing was charged.",
        "Shorten the study, or agree with the site on when it ends.",
    ),
    Reason.POLICY: Guidance(
        "The site's policy does not allow this.",
        _PART,
        "Ask the site; its own log says which limit.",
    ),
    Reason.STOPPED: Guidance(
        "The site stopped the work, for instance because its agent was shut down.",
        "This site's update of the attempt, and any budget charged for it.",
        "Continue with the other sites, or start it again.",
    ),
    Reason.NO_UPDATE: Guidance(
        "The site had no update when its reply slot came: it was late, or training "
        "failed; only the site knows which.",
        "This site's update of the attempt, and the budget charged for it.",
        "Ask the site to look at its own log.",
    ),
    Reason.AGENT_UNREACHABLE: Guidance(
        "The site's agent does not answer on its socket.",
        _UPDATE,
        "Ask the site to start the agent and to check the socket's path and permissions.",
    ),
    Reason.AGENT_SILENT: Guidance(
        "The site's agent took the message but did not answer in time.",
        _UPDATE,
        "Ask the site to check its agent.",
    ),
    Reason.NOT_READY: Guidance(
        "The site's agent is still loading its model.",
        "Nothing: the server asks again.",
        "Try again shortly.",
    ),
    Reason.INTERNAL: Guidance(
        "The site had an internal error.",
        _UPDATE,
        "Ask the site; the cause is in its own log and never leaves it.",
    ),
    Reason.OLDER_RUN: Guidance(
        "The site knows a newer run of this study; the refusal names it.",
        _NOTHING,
        "Go on with the newest run, or start one with a number above it.",
    ),
    Reason.RUN_OPEN: Guidance(
        "An attempt of another run of this study is still open at the site.",
        _NOTHING,
        "Let that run end, or stop it; its attempt ends at the latest when its offer expires.",
    ),
    Reason.CANNOT_FINISH: Guidance(
        "All rounds of the study with all of their attempts would exceed the site's privacy "
        "budget for it, so the site does not begin.",
        "Nothing: nothing was charged.",
        "Agree on a study that costs less, or ask the site to raise its budget or to set "
        "allow_partial = true in policy.toml.",
    ),
    Reason.RUN_TOO_FAR: Guidance(
        "The run's number is further above the newest that the site knows than its policy allows.",
        _NOTHING,
        "Take the next number, or ask the site to raise max_run_jump in policy.toml.",
    ),
    Reason.WRONG_ROSTER: Guidance(
        "The site has another roster in force than the coordinator.",
        _PART,
        "Give both the newest roster that the members have signed.",
    ),
    Reason.OTHER_VERSION: Guidance(
        "The message was written by a version of craftsfl whose messages this one cannot read.",
        _NOTHING,
        "Install the same craftsfl version at the server and the site.",
    ),
    Reason.MISSING_SUMS: Guidance(
        "The site cannot work the step's adapter out: it lacks opened sums of earlier steps. The "
        "refusal says how many steps it knows.",
        _NOTHING,
        "Nothing: the server sends the step again with the sums that are missing.",
    ),
    Reason.PAUSED: Guidance(
        "The hospital has paused: it begins no new attempt.",
        "Nothing: nothing was charged, and an attempt that was open went on.",
        "Wait until the site resumes, or ask it how long that takes; the run waits by itself.",
    ),
    Reason.LEFT: Guidance(
        "The hospital has left the study: it begins no attempt any more.",
        "This site's part in the rest of the study. Nothing was charged.",
        "Go on without it if enough sites are left; else agree on another study.",
    ),
}


def explain(reason: Reason) -> str:
    """What `reason` means to an operator, and what to do next."""
    explanation = _EXPLANATIONS[reason]
    return f"{explanation.happened} {explanation.next_step}"


def guidance_of(reason: Reason) -> Guidance:
    """The parts of what `reason` means."""
    return _EXPLANATIONS[reason]


def reason_id(reason: Reason) -> str:
    """The permanent id of `reason` in docs/errors.md."""
    return f"refused-{reason.name.lower().replace('_', '-')}"
