"""What can go wrong between a gateway and its SuperLink: a closed set, each for a sentence."""

from __future__ import annotations

from enum import Enum, auto


class Trouble(Enum):
    """Why the SuperLink could not be reached, or did not do what it was asked."""

    NO_NAME = auto()  # its host's name has no address
    NO_SUPERLINK = auto()  # nobody listens there, or a proxy has nobody behind it
    NO_ANSWER = auto()  # somebody listens and says nothing in time
    CERTIFICATE_EXPIRED = auto()
    CERTIFICATE_EARLY = auto()  # not valid yet
    CERTIFICATE_NAME = auto()  # of another name
    CERTIFICATE_UNKNOWN = auto()  # not signed by the authority in the settings
    TLS = auto()  # any other failure of TLS
    CLOCK = auto()  # its clock and ours differ by more than Flower admits
    NOT_ADMITTED = auto()  # Flower's code 2004: key unknown, or its node is still counted as online
    KEY_UNKNOWN = auto()  # a key that was registered is not any more
    VERSION = auto()  # Flower's versions do not go together
    NO_FLEET = auto()  # there is a server, but not Flower's
    STRANGE_ANSWER = auto()  # one without end, or packed: nothing that a SuperLink ever sends
    TOO_LARGE = auto()  # a proxy on the way refuses the size of a request
    TOO_OFTEN = auto()  # the coordinator's gate lets nobody ask that often
    RUN_ENDED = auto()  # what was asked for belongs to a run that has ended
    UNEXPECTED = auto()


class FleetTrouble(Exception):
    """A request to the SuperLink failed; `detail` is for people and names no secret."""

    def __init__(self, trouble: Trouble, detail: str = "") -> None:
        super().__init__(f"{trouble.name}: {detail}")
        self.trouble = trouble
        self.detail = detail
