"""What a check can say: findings, each with a permanent id, and facts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class Level(IntEnum):
    """How grave a finding is; the command's exit status is that of the gravest."""

    FINE = 0
    LOOK = 1  # a person should look; the site takes part as it is
    FAULT = 2  # the site does not take part, or not as the hospital thinks


class CheckId(StrEnum):
    """The permanent ids; `craftsfl.site.check.catalogue` explains them. None is ever reused."""

    # Settings, study and policy.
    SETTINGS = "settings"
    PERSONS_UNCONFIRMED = "persons-unconfirmed"
    STUDY_FORBIDDEN = "study-forbidden"
    STUDY_UNPAID = "study-unpaid"
    STUDY_PARTIAL = "study-partial"
    LEDGER = "ledger"
    ROSTER = "roster"
    BASE = "base"
    TOOK_BACK = "took-back"
    # Data.
    DATA_UNREADABLE = "data-unreadable"
    NO_TILES = "no-tiles"
    QUARANTINE = "quarantine"
    COHORT_SIZE = "cohort-size"
    IDS_DOUBTFUL = "ids-doubtful"
    ONE_LARGE_ID = "one-large-id"
    SAME_PICTURE = "same-picture"
    ALIKE_PICTURES = "alike-pictures"
    CAPTIONS_NAMES = "captions-names"
    CAPTIONS_CUT = "captions-cut"
    CAPTIONS_SAME = "captions-same"
    NEAR_BLACK = "near-black"
    BLANK = "blank"
    CHANNELS_IGNORED = "channels-ignored"
    ENLARGED = "enlarged"
    CROPPED = "cropped"
    # The machine.
    DEVICE = "device"
    CPU_ONLY = "cpu-only"
    TOO_SLOW = "too-slow"
    DISK = "disk"
    STATE_FOLDER = "state-folder"
    PRIVATE_FILES = "private-files"
    SOCKET = "socket"
    AIRLOCK = "airlock"
    AGENT_NETWORK = "agent-network"
    VERSIONS = "versions"
    # The way to the coordinator.
    COORDINATOR = "coordinator"
    CERTIFICATE = "certificate"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that a person should look at. Names no patient and quotes no caption.

    `cure` is what to do in this very case; "" for what the catalogue says.
    """

    id: CheckId
    words: str
    cure: str = ""


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that was looked at, and how it is: `value` is a text for people."""

    name: str
    value: str


Checked = Finding | Fact
