"""Why a message or a request is refused: a closed set, because free text could carry anything."""

from __future__ import annotations

from enum import IntEnum

from privacy.errors import WireError


class Reason(IntEnum):
    """The only words in which a site, or its forwarder, says no. Numbers never change."""

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


class RefusedMessage(WireError):
    """Bytes that are no message of this protocol, with the `reason` to answer their sender."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message, "Nothing was changed. Check that both ends run the same version.")
        self.reason = reason


_EXPLANATIONS = {
    Reason.MALFORMED: "The message was not one of this protocol. "
    "Install the same craftsfl version at the server and the site.",
    Reason.TOO_LARGE: "The message was larger than the study's adapter allows. "
    "Compare the study files of the server and the site.",
    Reason.UNKNOWN_KIND: "The receiver does not know or expect this kind of message. "
    "Install the same craftsfl version at the server and the site.",
    Reason.WRONG_STUDY: "The site takes part in another study, or in another edition of this one. "
    "Give every site the study file that the server reads.",
    Reason.WRONG_LAYOUT: "The site's model gives another adapter layout. "
    "Compare the base model's digest and the adapter settings of the study.",
    Reason.NOT_NEWER: "The site has already seen a later round or attempt. "
    "Start a new run, or let the newer attempt finish.",
    Reason.CONFLICT: "The site has already been asked for this attempt with other contents. "
    "Start a new attempt or a new run.",
    Reason.NOT_STARTED: "The site does not know of this attempt, for instance after a restart. "
    "The server starts a new attempt if the study allows one.",
    Reason.BUDGET: "The round would exceed the site's privacy budget, so the site did not train. "
    "Shorten the study, or agree on its end with the site.",
    Reason.POLICY: "The site's policy does not allow this. "
    "Ask the site; its own log says which bound it is.",
    Reason.STOPPED: "The site stopped the work, for instance because its agent was shut down. "
    "Go on with the other sites, or start it again.",
    Reason.NO_UPDATE: "The site had no update when its reply slot came: it was late, or training "
    "failed; which of them never leaves it. Ask the site to look at its own log.",
    Reason.AGENT_UNREACHABLE: "The site's agent does not answer on its socket. "
    "Ask the site to start the agent and to check the socket's path and permissions.",
    Reason.AGENT_SILENT: "The site's agent took the message but did not answer in time. "
    "Ask the site to look at its agent.",
    Reason.NOT_READY: "The site's agent is still loading its model. Try again shortly.",
    Reason.INTERNAL: "The site met an error of its own. "
    "Ask the site; the cause is in its own log and never leaves it.",
}


def explain(reason: Reason) -> str:
    """What `reason` means to an operator, and what to do next."""
    return _EXPLANATIONS[reason]
