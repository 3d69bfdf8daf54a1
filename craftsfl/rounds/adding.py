"""`craftsfl rounds add`: the hospitals' cards in, the study's roster and one invitation out.

Cards are kept; once those of all sites of the study are there, the roster is proposed, the study
names it, and the invitation is written. Guarantees, each with a test:

- A card counts as its hospital signed it. A name keeps its key: another key under a name that is
  in the roster is refused, so is one that another name has.
- The first roster is made once. For a later study it is the same one, or a successor where sites
  joined or left; its members sign that.
- Who is in the roster stays in it unless `without` names it, and the study does not list it.
- While a run is open nothing is changed.
"""

# Why: docs/adr/0057-first-hour.md

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from craftsfl.planning.study_file import NOT_YET
from craftsfl.rounds.leaving import check_leavers, put_card_away
from craftsfl.rounds.roster import member_of, successor_of
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, SecAggError
from privacy.files import write_public
from privacy.identity import fingerprint, load_identity
from privacy.secagg.card import SiteCard, read_card
from privacy.secagg.chain import AgreedRoster, read_rosters, write_rosters
from privacy.secagg.roster import SignedRoster, propose_roster
from privacy.study.invitation import invitation_of, write_invitation
from privacy.study.manifest import Study, load_study
from privacy.visible import marked
from server.clock import SystemClock
from server.runs import Runs
from server.settings import ConsortiumSettings, InvitationSettings, load_consortium

_PIN: Final = re.compile(r'(?m)^(\s*roster\s*=\s*)"[0-9a-f]{64}"')
_KEY: Final = re.compile(rf'(?m)^(\s*coordinator_key\s*=\s*)"{NOT_YET}"')
_INIT: Final = "Make one with craftsfl rounds init; docs/operator.md has the long way."


def add_hospitals(
    settings_file: Path,
    cards: Sequence[Path],
    study: Path | None = None,
    without: Sequence[str] = (),
) -> Iterator[str]:
    """Take in `cards`, and `study` as the next one; what was done and what is next, line by line.

    `without`: members of the roster who leave. Raises `CraftsflError`, and has then changed
    nothing but the cards that were good.
    """
    settings = load_consortium(settings_file)
    invitation = _invitation(settings, settings_file)
    _check_no_run(settings)
    wanted = load_study(study or settings.study)
    check_leavers(settings, settings_file, wanted, without)
    _keep_cards(cards, invitation.cards, settings, wanted)
    known = {site.name: _known_card(invitation.cards, site.name) for site in wanted.sites}
    missing = [name for name, card in known.items() if card is None]
    for name, card in known.items():
        if card is not None:
            yield f"{name}: {marked(card.organisation)}, key {fingerprint(card.key)}"
    if missing:
        yield (
            f"Cards are missing of {', '.join(missing)}. Next, once they are here: craftsfl rounds "
            f"add {shlex.quote(str(settings_file))} {missing[0]}.card"
        )
        return
    every = {name: card for name, card in known.items() if card is not None}
    yield from _invite(settings, settings_file, invitation, every, study)
    for name in without:
        yield put_card_away(invitation.cards, name)


def _authority(settings: ConsortiumSettings) -> str:
    """The certificates in PEM that hospitals will trust; "" without a SuperLink of ours."""
    if settings.superlink is None:
        return ""
    path = settings.superlink.authority
    try:
        data = path.read_bytes()
        x509.load_pem_x509_certificates(data)
        return data.decode("ascii")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no certificate in PEM"
        raise ConfigError(
            f"The authority {path} cannot be used: {why}.",
            "Put the PEM file there that the SuperLink's certificate was signed with.",
            id=ErrorId.CERTIFICATE_UNUSABLE,
        ) from None


def _invite(
    settings: ConsortiumSettings,
    settings_file: Path,
    invitation: InvitationSettings,
    cards: Mapping[str, SiteCard],
    next_study: Path | None,
) -> Iterator[str]:
    roster = _roster(settings, invitation.consortium, cards)
    text = _filled((next_study or settings.study).read_text("utf-8"), roster, settings)
    made = invitation_of(invitation.superlink, _authority(settings), roster, text)
    if next_study is not None and settings.study.exists():
        _put_away(settings.study)
    if settings.roster is None:
        raise ConfigError("consortium.toml names no roster.", _INIT)
    write_rosters(settings.roster, roster.chain)
    write_public(settings.study, text.encode("utf-8"))
    write_invitation(invitation.file, made)
    yield "Compare each key's fingerprint with its hospital on the phone."
    agreed, file = roster.roster, shlex.quote(str(settings_file))
    yield f"Roster {agreed.sequence} of {agreed.consortium}, and the study {made.study.name}."
    yield (
        f"Next: send {invitation.file} to every hospital, and read its fingerprint out on the "
        f"phone:\n\n    {made.fingerprint()}\n\nThen: craftsfl rounds serve {file}, and "
        f"craftsfl rounds start {file}"
    )


def _invitation(settings: ConsortiumSettings, file: Path) -> InvitationSettings:
    if settings.invitation is None or settings.roster is None:
        raise ConfigError(f"{file} has no [invitation] table, or names no roster.", _INIT)
    return settings.invitation


def _check_no_run(settings: ConsortiumSettings) -> None:
    if settings.database is None and not (settings.state / "rounds.db").exists():
        return
    with Runs(settings.database_url(), SystemClock()) as runs:
        run = runs.open_run()
    if run is not None:
        raise ConfigError(
            f"Run {run.name.number} of {run.study} is open: its study and roster stay as they are.",
            "Let it end, or end it: craftsfl rounds stop consortium.toml",
            id=ErrorId.RUN_STILL_OPEN,
        )


def _keep_cards(
    paths: Sequence[Path], folder: Path, settings: ConsortiumSettings, study: Study
) -> None:
    """Check all cards against each other and against those that are known, then keep them."""
    roster = settings.roster
    chain = read_rosters(roster) if roster is not None and roster.exists() else ()
    known = {path.stem: read_card(path) for path in sorted(folder.glob("*.card"))}
    good: dict[str, Path] = {}
    for path in paths:
        card = read_card(path)
        _check_card(path, card, study)
        _check_unique(path, card, known, folder)
        _check_listed(path, card, chain)
        known[card.name], good[card.name] = card, path
    folder.mkdir(parents=True, exist_ok=True)
    for name, path in good.items():
        write_public(folder / f"{name}.card", path.read_bytes())
        write_public(folder / f"{name}.pub", f"{known[name].node_key}\n".encode("ascii"))


def _check_unique(path: Path, card: SiteCard, known: Mapping[str, SiteCard], folder: Path) -> None:
    other = known.get(card.name)
    if other is not None and other.key != card.key:
        raise _unusable(
            f"{path} is another key's card than the one that {card.name} sent before "
            f"({fingerprint(other.key)}).",
            "Ask the hospital on the phone which is its key. If the new one is, and no roster "
            f"lists the old one yet, delete {folder / f'{card.name}.card'}; else: craftsfl rounds "
            "roster propose --after.",
        )
    twin = next((name for name, one in known.items() if name != card.name and _same(one, card)), "")
    if twin:
        raise _unusable(
            f"{path} shows a key that {twin} has shown.",
            "A key is one hospital's alone: each makes its own with craftsfl site init.",
        )


def _check_card(path: Path, card: SiteCard, study: Study) -> None:
    if card.node_key is None:
        raise _unusable(
            f"{path} does not name the key of the hospital's gateway.",
            "It is from an earlier version: have the hospital run craftsfl site card, with this "
            "version.",
        )
    if study.site(card.name) is None:
        listed = ", ".join(site.name for site in study.sites)
        raise _unusable(
            f"{path} is the card of {card.name}, which the study does not list ({listed}).",
            "Have the hospital use the name under which you planned it, or plan the study with "
            "its name.",
        )


def _check_listed(path: Path, card: SiteCard, chain: Sequence[SignedRoster]) -> None:
    member = chain[-1].roster.member_named(card.name) if chain else None
    if member is not None and member.public_key != card.key:
        raise _unusable(
            f"{path} has another key than the roster lists for {card.name}.",
            "Ask the hospital on the phone. If nobody has joined yet, delete the roster, and add "
            "all cards again; later, craftsfl rounds roster propose --after replaces a lost key.",
        )


def _same(first: SiteCard, second: SiteCard) -> bool:
    return first.key == second.key or first.node_key == second.node_key


def _known_card(folder: Path, name: str) -> SiteCard | None:
    path = folder / f"{name}.card"
    return read_card(path) if path.exists() else None


def _roster(
    settings: ConsortiumSettings, consortium: str, cards: Mapping[str, SiteCard]
) -> AgreedRoster:
    """The roster of these sites: the one that is there if it is theirs, a new one else."""
    path = settings.roster
    chain = read_rosters(path) if path is not None and path.exists() else ()
    if not chain:
        members = [member_of(site, card) for site, card in enumerate(cards.values(), start=1)]
        proposed = propose_roster(members, len(members) // 2 + 1, consortium=consortium)
        return AgreedRoster((proposed,))
    listed = {member.name: member.public_key for member in chain[-1].roster.members}
    if listed == {name: card.key for name, card in cards.items()}:
        return AgreedRoster(chain)
    if AgreedRoster(chain).lacking:
        raise SecAggError(
            f"Roster {chain[-1].roster.sequence} is still being signed: no successor can be made.",
            "Let its members sign it first; or if nobody has joined yet, delete "
            f"{path} and add the cards again.",
        )
    gone = [name for name in listed if name not in cards]
    successor = successor_of(list(cards.values()), gone, [one.roster for one in chain])
    return AgreedRoster((*chain, successor))


def _filled(text: str, roster: AgreedRoster, settings: ConsortiumSettings) -> str:
    """The study's text, naming this roster, and the coordinator's key if it names none yet."""
    if NOT_YET in text and settings.coordinator_key is not None:
        key = load_identity(settings.coordinator_key).public.hex()
        text = _KEY.sub(rf'\1"{key}"', text)
    pin = roster.roster.digest().hex()
    found, count = _PIN.subn(rf'\1"{pin}"', text)
    if count != 1:
        raise ConfigError(
            "The study's file does not name one roster in its table [secure_aggregation].",
            f'Write there: roster = "{NOT_YET}"',
        )
    return found


def _put_away(study: Path) -> None:
    """Keep the last study's file beside the new one's."""
    digest = load_study(study).digest().hex()[:12]
    folder = study.parent / "earlier"
    folder.mkdir(exist_ok=True)
    shutil.copyfile(study, folder / f"study-{digest}.toml")


def _unusable(message: str, hint: str) -> ConfigError:
    return ConfigError(message, hint, id=ErrorId.CARD_UNUSABLE)
