"""What each finding of `craftsfl site check` means and how grave it is. Makes docs/checks.md.

    python -m craftsfl.site.check.catalogue > docs/checks.md

A test fails if the file differs from what this module writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from craftsfl.site.check.finding import CheckId, Level

PAGE: Final = "docs/checks.md"
_HEAD = """\
# What `craftsfl site check` finds, by id

`craftsfl site check site.toml` ends with 0 if there is nothing to do, with 1 if a person should
look at something, and with 2 if the site would not take part, or not as the hospital thinks. An id
never changes its meaning and is never used again; `--json` has it as `id`. Findings name rows by
their number below the header, never a text or an id of a patient.

`python -m craftsfl.site.check.catalogue > docs/checks.md` writes this page; do not edit it.
"""


@dataclass(frozen=True, slots=True)
class Meaning:
    """How grave a finding is, what it means, and what to do about it."""

    level: Level
    means: str
    cure: str


def _look(means: str, cure: str) -> Meaning:
    return Meaning(Level.LOOK, means, cure)


def _fault(means: str, cure: str) -> Meaning:
    return Meaning(Level.FAULT, means, cure)


MEANINGS: Final[Mapping[CheckId, Meaning]] = {
    CheckId.SETTINGS: _fault(
        "site.toml, policy.toml or study.toml cannot be read, or a key in it is wrong.",
        "Correct what the text names, and check again.",
    ),
    CheckId.PERSONS_UNCONFIRMED: _fault(
        "Nobody has confirmed that patient_id names persons. The agent does not start without.",
        "Look at craftsfl site suspicions site.toml; then patient_ids_confirmed = true in [data].",
    ),
    CheckId.STUDY_FORBIDDEN: _fault(
        "policy.toml does not allow this study.",
        "Change policy.toml only if the hospital agrees; otherwise ask for another study.",
    ),
    CheckId.STUDY_UNPAID: _fault(
        "All attempts of the whole schedule together cost more than the policy allows, so the "
        "agent refuses the study at the first greeting.",
        "Ask for a study that costs less, or raise the budget. allow_partial = true in policy.toml "
        "lets it begin all the same, and end wherever the budget does.",
    ),
    CheckId.STUDY_PARTIAL: _look(
        "The study costs more than the policy allows, and allow_partial lets it begin: it may "
        "never be finished, and what it has cost by then is gone.",
        "craftsfl site budget site.toml shows what is left.",
    ),
    CheckId.LEDGER: _fault(
        "The ledger, its key or its marker cannot be used. A site that cannot say what it has "
        "spent does not train.",
        "Do what the text says; never begin with an empty ledger.",
    ),
    CheckId.ROSTER: _fault(
        "The roster is missing, not signed by enough members, or does not list this site's key.",
        "Ask for the roster that the members have signed; compare fingerprints by phone.",
    ),
    CheckId.BASE: _fault(
        "The base model of the study is not on this machine, or is another one.",
        "Install it as the agent's user, with the command in the text.",
    ),
    CheckId.TOOK_BACK: _look(
        "The hospital has paused, or left: the agent refuses every new attempt.",
        "craftsfl site resume site.toml takes part again.",
    ),
    CheckId.DATA_UNREADABLE: _fault(
        "The data folder or its table cannot be read at all.",
        "Do what the text says.",
    ),
    CheckId.NO_TILES: _fault(
        "No tile can be used: the site would add noise alone.",
        "Look at quarantine.csv in the state folder, which names each file and the reason.",
    ),
    CheckId.QUARANTINE: _look(
        "Some entries of the table are left out. The list here is by reason; quarantine.csv in the "
        "state folder, written at the agent's start, has each file.",
        "Mend the files or the rows, or leave them: nothing else depends on them.",
    ),
    CheckId.COHORT_SIZE: _look(
        "The number of patients is not the one that the study declares for this site. Noise and "
        "weight follow the declared one.",
        "Have the declared size corrected in the next study.",
    ),
    CheckId.IDS_DOUBTFUL: _look(
        "The ids look like those of slides, blocks or examinations. A person with several ids is "
        "protected that much less.",
        "Give every tile the id of its patient; see craftsfl site suspicions site.toml.",
    ),
    CheckId.ONE_LARGE_ID: _look(
        "One id has most of the tiles: it may stand for everybody whose id was not known. All of "
        "them count as one patient and are rarely drawn.",
        "Look at how the export fills ids that are missing.",
    ),
    CheckId.SAME_PICTURE: _look(
        "The same file, byte for byte, stands under several ids.",
        "Find out whether they are one person (craftsfl site suspicions site.toml --list FILE), "
        "and join the ids (craftsfl site merge site.toml).",
    ),
    CheckId.ALIKE_PICTURES: _look(
        "Pictures of different patients look alike though their bytes differ: saved again, scaled, "
        "or of neighbouring sections. A small perceptual hash found them; it can be wrong.",
        "Look at the rows. If they are one person, give them one id, or craftsfl site merge "
        "site.toml.",
    ),
    CheckId.CAPTIONS_NAMES: _look(
        "Captions hold what looks like a name, a date, or a number of a person or an examination. "
        "What a caption says is trained on; epsilon bounds it, but it should not be there.",
        "Look at these rows in the table, and take names and numbers out.",
    ),
    CheckId.CAPTIONS_CUT: _look(
        "Captions are longer than the model reads; the rest of each is ignored.",
        "Shorten them, the important words first.",
    ),
    CheckId.CAPTIONS_SAME: _look(
        "All captions are the same text: the model cannot learn what words mean from these tiles.",
        "Write what is seen in each tile, or know that only style is learnt.",
    ),
    CheckId.NEAR_BLACK: _look(
        "Pictures are nearly black, as 8-bit copies of 12-bit data are.",
        "Export them again over the whole range.",
    ),
    CheckId.BLANK: _look(
        "Pictures show next to nothing, white or grey all over.",
        "Leave out tiles without tissue.",
    ),
    CheckId.CHANNELS_IGNORED: _look(
        "Pictures have more than three colours, transparent parts, or several frames. Of channels "
        "the first three count, of frames the first; what is transparent counts as white.",
        "Export what you mean as RGB.",
    ),
    CheckId.ENLARGED: _look(
        "Pictures are smaller than the model's, and are enlarged: they are blurred.",
        "Cut tiles at the model's size or above, at the magnification that the study names.",
    ),
    CheckId.CROPPED: _look(
        "Pictures are not square: only the central square is used.",
        "Cut square tiles if what lies at the edges matters.",
    ),
    CheckId.DEVICE: _fault(
        "The model cannot be loaded or tried on this machine's device.",
        "Do what the text says.",
    ),
    CheckId.CPU_ONLY: _look(
        "device is auto and no GPU was found, so the site trains on the CPU. (With device = cpu "
        "nothing is said.)",
        "If there is a GPU, check driver and torch build; else set device = cpu in [agent].",
    ),
    CheckId.TOO_SLOW: _look(
        "A round would not be done when its slot comes: every attempt would be charged and lost.",
        "Ask for a study with a longer reply_slot or fewer steps, or use a faster device.",
    ),
    CheckId.DISK: _look(
        "Little space is left where the state folder lies. A ledger that cannot be written refuses "
        "every attempt.",
        "Free some, or move agent.state with the agent stopped.",
    ),
    CheckId.STATE_FOLDER: _fault(
        "The state folder cannot be used by this user, or others can.",
        "Give it to the agent's user, mode 0700. Run this check as that user.",
    ),
    CheckId.PRIVATE_FILES: _fault(
        "A key or passphrase file is missing, or somebody else can read or change it.",
        "Find out who could have read it; then chmod 600, and chown it to the agent's user.",
    ),
    CheckId.SOCKET: _fault(
        "The agent could not listen on its socket, or the gateway could not reach it.",
        "Do what the text says; docs/hospital.md, Install, says whose each file and folder is.",
    ),
    CheckId.AIRLOCK: _fault(
        "Nothing would keep the gateway, which faces the network, from data and keys.",
        "Two users, or one ordinary user on a Linux with Landlock: docs/hospital.md, Serve.",
    ),
    CheckId.AGENT_NETWORK: _fault(
        "This system cannot cut the agent off from the network.",
        "Run it on Linux, in a container without a network, or allow user namespaces.",
    ),
    CheckId.VERSIONS: _fault(
        "Something that craftsfl needs is missing, or of a version that it does not work with.",
        "Install it again with its constraints: pip install -c constraints.txt '.[site]'",
    ),
    CheckId.COORDINATOR: _look(
        "The coordinator's SuperLink cannot be reached now. The gateway would go on asking.",
        "Do what the text says; if the address is right, ask the operator whether it runs.",
    ),
    CheckId.CERTIFICATE: _look(
        "The coordinator's certificate is not accepted, or ends soon.",
        "Tell the operator, who makes a new one; nothing has to be restarted here.",
    ),
    CheckId.CLOCK: _look(
        "This machine's clock and the coordinator's differ. Flower refuses signatures that are 5 s "
        "early or 5 minutes late.",
        "Synchronise the clock (NTP); if it is right, tell the operator.",
    ),
}
_LEVELS: Final = {
    Level.FAULT: "The site would not take part (2)",
    Level.LOOK: "A person should look (1)",
}


def level_of(id: CheckId) -> Level:
    """How grave it is."""
    return MEANINGS[id].level


def anchor_of(id: CheckId) -> str:
    """Where the documents explain it."""
    return f"{PAGE}#{id}"


def checks_page() -> str:
    """The whole of docs/checks.md."""
    return _HEAD + "".join(line for level in _LEVELS for line in _section(level))


def _section(level: Level) -> Iterator[str]:
    yield f"\n## {_LEVELS[level]}\n"
    for id, meaning in MEANINGS.items():
        if meaning.level is level:
            yield f"\n### {id}\n\n{meaning.means}\n\n- **Do:** {meaning.cure}\n"


if __name__ == "__main__":
    sys.stdout.write(checks_page())
