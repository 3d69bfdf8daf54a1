"""What the hospital's desk is told: one line when something changes, not one for each try.

Each line says what happened and what to do about it, at the desk of whoever can. Three things have
a state: the way to the SuperLink, the agent's socket, and what the agent answers. A state that
lasts is said again from time to time.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from client.forwarded import AtTheSocket, Forwarded
from client.gateway.trouble import FleetTrouble, Trouble
from privacy.visible import visible
from privacy.wire.bodies import Refusal
from privacy.wire.envelope import open_envelope
from privacy.wire.reasons import Reason, RefusedMessage, guidance_of

DESK_MARK = "desk: "  # before every line, for whoever reads the log
REPEAT_SECONDS = 600.0
ADMITTED_SECONDS = 70.0  # Flower admits a node at the latest 60 s after its predecessor's last beat
_CLOSE_TO_REFUSED = 3.0  # seconds that a clock may be ahead: Flower refuses from 5
_LONGEST_REFUSAL = 4096  # bytes; larger answers are none
_LONGEST_DETAIL = 300  # characters of what the other side says

_TROUBLE: Final = {
    Trouble.NO_NAME: "The name of {superlink} has no address. Check superlink in site.toml, and "
    "this machine's name service.",
    Trouble.NO_SUPERLINK: "No SuperLink at {superlink}: nobody accepts the connection. It is asked "
    "again every few seconds. If this lasts, ask the operator, or check the firewall.",
    Trouble.NO_ANSWER: "The SuperLink at {superlink} accepts connections but does not answer. It "
    "is asked again every few seconds. If this lasts, ask the operator.",
    Trouble.CERTIFICATE_EXPIRED: "The certificate of {superlink} has expired, or this machine's "
    "clock is wrong (it says {now}). If the clock is right, ask the operator for a new one; "
    "nothing has to be restarted here.",
    Trouble.CERTIFICATE_EARLY: "The certificate of {superlink} is not valid yet, or this machine's "
    "clock is wrong (it says {now}).",
    Trouble.CERTIFICATE_NAME: "The certificate of {superlink} is for another name ({detail}). "
    "Check superlink in site.toml; if it is right, the operator's certificate does not name it.",
    Trouble.CERTIFICATE_UNKNOWN: "The certificate of {superlink} is not signed by the authority in "
    "root_certificates ({detail}). Ask the operator for the current file; somebody else may be "
    "answering.",
    Trouble.TLS: "No encrypted connection to {superlink} ({detail}). Check address and port.",
    Trouble.KEY_UNKNOWN: "The SuperLink does not know this gateway's key any more. Send {public} "
    "to the operator, who registers it (craftsfl rounds register).",
    Trouble.VERSION: "The SuperLink refuses this version of Flower: {detail} Ask the operator "
    "which version of craftsfl to install.",
    Trouble.NO_FLEET: "What answers at {superlink} is not Flower's Fleet API ({detail}). Check "
    "address and port in site.toml.",
    Trouble.STRANGE_ANSWER: "What answers at {superlink} answered as no SuperLink does ({detail}), "
    "and was not listened to. Tell the operator; somebody else may be answering.",
    Trouble.TOO_OFTEN: "The SuperLink at {superlink} refuses requests of this gateway's key: there "
    "are too many (HTTP 429). One gateway never asks that often: look for a second process with "
    "this key. It is asked again in a few seconds.",
    Trouble.TOO_LARGE: "A proxy on the way to {superlink} refuses the size of an answer (HTTP "
    "413). It has to admit requests of 6 MB: tell the operator, or whoever runs the proxy.",
    Trouble.UNEXPECTED: "The SuperLink at {superlink} answered unexpectedly ({detail}). Tell the "
    "operator.",
}
_UNADMITTED = (
    "The SuperLink does not admit this gateway yet: its key is not registered, or it was connected "
    "less than a minute ago, which Flower waits out. Trying again."
)
_STILL_UNADMITTED = (
    "The SuperLink still does not admit this gateway. Either its key is not registered: send "
    "{public} to the operator (craftsfl rounds register). Or another gateway or SuperNode runs "
    "with the same key: end one of them."
)
_FORGETFUL = (
    "What this gateway has to know after a kill cannot be written to home, in the [gateway] table "
    "of site.toml ({trouble}). It goes on; if it is killed now, the message in its hands is lost, "
    "and it is admitted a minute later. Free some space."
)
_SOCKET: Final = {
    AtTheSocket.LISTENING: "The agent listens on {socket}.",
    AtTheSocket.NO_FILE: "No agent: {socket} does not exist. Start the agent (its log says why if "
    "it ended), or correct socket in the [agent] table of site.toml.",
    AtTheSocket.NO_PERMISSION: "No way to the agent: this user may not open {socket}. It takes "
    'socket_mode = "0660", and a folder and a group that both users share.',
    AtTheSocket.NO_LISTENER: "No agent: nobody listens on {socket} any more. Start the agent; its "
    "log says why it ended.",
    AtTheSocket.UNUSABLE: "No way to the agent: {socket} is not a socket that can be used.",
}
# What a refusal means where the agent stands; others as `privacy.wire.reasons` explains them.
_REFUSED: Final = {
    Reason.MALFORMED: "What the coordinator sent is no message of this version. Compare the "
    "versions of craftsfl with the operator.",
    Reason.TOO_LARGE: "The coordinator sent more than this study's adapter allows; it was refused. "
    "Compare the study files with the operator.",
    Reason.UNKNOWN_KIND: "The coordinator sent a kind of message that this version does not know. "
    "Compare the versions of craftsfl with the operator.",
    Reason.WRONG_STUDY: "The coordinator runs another study, or another version of it, than the "
    "agent. If this site has just joined it: craftsfl site reload. Else ask the operator for the "
    "newest invitation, or for the study file in force.",
    Reason.WRONG_LAYOUT: "The coordinator's model has another adapter layout. Compare base and "
    "study file with the operator.",
    Reason.BUDGET: "The agent refused a round: it would exceed this site's privacy budget "
    "(craftsfl site budget shows it). Nothing was charged.",
    Reason.POLICY: "The agent refused what the coordinator asks: this site's policy or roster does "
    "not allow it. The agent's log says which limit.",
    Reason.INTERNAL: "The agent had an internal error, for instance a full disk; its log says "
    "which.",
    Reason.AGENT_SILENT: "The agent took a message but gave no answer in time. Look at its log.",
    Reason.NOT_READY: "The agent is still loading; the coordinator asks again.",
    Reason.PAUSED: "This site is paused: the agent refused a new attempt, which costs nothing. "
    "To take part again: craftsfl site resume.",
    Reason.LEFT: "This site has left: the agent refused a new attempt, which costs nothing. To "
    "take part again: craftsfl site resume.",
}


class Connected(Protocol):
    """What the desk is told of a connection."""

    @property
    def node(self) -> int:
        """The node's id at the SuperLink."""

    @property
    def version(self) -> str:
        """What the SuperLink says about the versions of Flower; "" if they go together."""

    @property
    def ahead(self) -> float:
        """Seconds by which this machine's clock is ahead of the SuperLink's."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the lines call things."""

    superlink: str
    socket: str
    public: str  # the file with the public key


class Desk:
    """Writes lines with `write` when a state changes; `clock` is monotonic, in seconds."""

    def __init__(
        self,
        names: Names,
        write: Callable[[str], None],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names, self._write, self._clock = names, write, clock
        self._said: dict[str, tuple[str, float]] = {}
        self._unadmitted: float | None = None  # since when

    def connected(self, link: Connected) -> None:
        """The way to the SuperLink is open."""
        self._unadmitted = None
        self._say("link", f"Connected to {self._names.superlink} as node {link.node}.")
        if link.version:
            self._say(
                "version",
                "The SuperLink runs another version of Flower; so far it goes on: "
                f"{_shown(link.version)}",
            )
        if link.ahead > _CLOSE_TO_REFUSED:
            self._say(
                "clock",
                "This machine's clock is about 3 s ahead of the coordinator's; from 5 s on Flower "
                "refuses this site. Synchronise the clock.",
            )

    def trouble(self, trouble: FleetTrouble) -> None:
        """A request to the SuperLink failed."""
        words = self._words(trouble)
        self._say("link", words, state=_state(trouble) or words)

    def memory(self, trouble: str) -> None:
        """What this gateway has to know after a kill was written down; `trouble`: or why not."""
        if trouble:
            self._say("memory", _FORGETFUL.format(trouble=_shown(trouble)))
        elif self._said.pop("memory", None):
            self._write(f"{DESK_MARK}home in site.toml can be written again.")

    def at_the_socket(self, found: AtTheSocket) -> None:
        """What a knock at the agent's socket found."""
        self._say("agent", _SOCKET[found].format(socket=self._names.socket))

    def answered(self, found: Forwarded, knock: Callable[[], AtTheSocket]) -> None:
        """What the agent answered, if it did."""
        if found.silent is Reason.AGENT_UNREACHABLE:
            self.at_the_socket(knock())
        elif found.silent is not None:
            self.refused(found.silent)
        else:
            self._say("agent", _SOCKET[AtTheSocket.LISTENING].format(socket=self._names.socket))
            self._look_into(found.answer)

    def refused(self, reason: Reason) -> None:
        """A message was refused, by the agent or in its place."""
        words = _REFUSED.get(reason)
        if words is None:
            known = guidance_of(reason)
            words = f"The agent refused a message. {known.happened} {known.next_step}"
        self._say("refusal", words)

    def _look_into(self, answer: bytes) -> None:
        if len(answer) > _LONGEST_REFUSAL:
            return
        try:
            body = open_envelope(answer, limit=_LONGEST_REFUSAL).body
        except RefusedMessage:  # not for this process to judge
            return
        if isinstance(body, Refusal):
            self.refused(body.reason)
        elif self._said.pop("refusal", None):  # the next refusal is news
            self._write(f"{DESK_MARK}The agent answers the coordinator again.")

    def _words(self, trouble: FleetTrouble) -> str:
        if trouble.trouble is Trouble.NOT_ADMITTED:
            now = self._clock()
            self._unadmitted = now if self._unadmitted is None else self._unadmitted
            if now - self._unadmitted >= ADMITTED_SECONDS:
                return _STILL_UNADMITTED.format(public=self._names.public)
            return _UNADMITTED
        self._unadmitted = None
        return trouble_words(trouble, self._names)

    def _say(self, topic: str, text: str, state: str | None = None) -> None:
        """Say it if it is news; `state`: what makes it that, if not every word."""
        now, state = self._clock(), state or text
        last, when = self._said.get(topic, ("", -REPEAT_SECONDS))
        if state != last or now - when >= REPEAT_SECONDS:
            self._said[topic] = (state, now)
            self._write(DESK_MARK + text)


def trouble_words(trouble: FleetTrouble, names: Names) -> str:
    """What a trouble on the way to the SuperLink means, and what to do about it."""
    if trouble.trouble is Trouble.CLOCK:
        return _clock_words(trouble.detail)
    words = _TROUBLE.get(trouble.trouble, _TROUBLE[Trouble.UNEXPECTED])
    return words.format(
        superlink=names.superlink,
        public=names.public,
        detail=_shown(trouble.detail),
        now=time.strftime("%Y-%m-%d %H:%M"),
    )


def _state(trouble: FleetTrouble) -> str:
    """What stays the same of a trouble whose words hold a time; "" for the others."""
    if trouble.trouble is Trouble.CLOCK:
        return f"{trouble.trouble.name} {int(trouble.detail) > 0}"
    return trouble.trouble.name if "{now}" in _TROUBLE.get(trouble.trouble, "") else ""


def _clock_words(ahead: str) -> str:
    seconds = int(ahead)
    which = "ahead of" if seconds > 0 else "behind"
    return (
        f"This machine's clock is {abs(seconds)} s {which} the coordinator's, and Flower refuses "
        "signatures that are 5 s early or 5 minutes late (HTTP 401). Synchronise the clock (NTP); "
        "if it is right, tell the operator."
    )


def _shown(text: str) -> str:
    """What the other side says, harmless on a terminal."""
    return visible(" ".join(text.split()), most=_LONGEST_DETAIL)
