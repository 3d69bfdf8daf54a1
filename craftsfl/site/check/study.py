"""The study against the hospital's policy, keys, roster, ledger and base; without data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from client.agent.masking import Membership
from client.agent.own_ledger import identity_of, read_own_ledger
from client.agent.startup import RuledSite, check_own_signature
from client.agent.state import StateFolder
from client.agent.wishes import SiteWish, WishFile
from craftsfl.site.budget.statement import statement_of
from craftsfl.site.check.finding import Checked, CheckId, Fact, Finding
from model.cache import find_base
from privacy.errors import CraftsflError, PolicyError
from privacy.study.agreement import roster_agreed


def check_against_policy(site: RuledSite) -> Iterator[Checked]:
    """Whether the policy allows the study at all, and whether persons were confirmed."""
    study = site.rules.study
    yield Fact("study", f"{study.name}, digest {study.digest().hex()}")
    if not site.settings.data.patient_ids_confirmed:
        yield Finding(
            CheckId.PERSONS_UNCONFIRMED, "patient_ids_confirmed is not set in [data] of site.toml."
        )
    for check in (site.rules.check, site.rules.check_budget):
        try:
            check()
        except CraftsflError as error:
            yield Finding(CheckId.STUDY_FORBIDDEN, error.message, error.hint)


def check_roster(site: RuledSite) -> Iterator[Checked]:
    """Whether the newest roster is signed here, and lists this site's key under its name."""
    own = site.settings.identity
    if own is None:
        yield Finding(CheckId.ROSTER, "site.toml has no [identity] table.")
        return
    try:
        found = roster_agreed(site.rules.study, own.roster)
        keyed, roster = identity_of(site.settings), found.roster
        if keyed is not None:
            Membership(keyed.identity, roster).check(site.rules)
            check_own_signature(found, keyed.identity, own)
    except CraftsflError as error:
        yield Finding(CheckId.ROSTER, error.message, error.hint)
        return
    some = "1 signature" if found.lacking == 1 else f"{found.lacking} signatures"
    waits = f", waits for {some} of others" if found.lacking else ""
    yield Fact(
        "roster", f"{roster.consortium}, {len(roster.members)} members, lists this key{waits}"
    )


def check_pinned_base(site: RuledSite, *, hashed: bool) -> Iterator[Checked]:
    """Whether the study's base is on this machine; with `hashed`, byte for byte."""
    base = site.rules.study.base
    try:
        folder = find_base(base, root=site.settings.study.parent, verify=hashed)
    except CraftsflError as error:
        yield Finding(CheckId.BASE, error.message, error.hint)
        return
    yield Fact("base", f"{base.digest} in {folder}" + ("" if hashed else ", not hashed again"))


def check_ledger(site: RuledSite) -> Iterator[Checked]:
    """What the whole schedule costs here, with what was charged before. Takes the accountant."""
    try:
        view = read_own_ledger(StateFolder(site.settings.agent.state), site.settings)
        entries = () if view is None else view.entries()
        site.rules.check_other_studies(entries)
    except PolicyError as error:
        yield Finding(CheckId.STUDY_FORBIDDEN, error.message, error.hint)
        return
    except CraftsflError as error:
        yield Finding(CheckId.LEDGER, error.message, error.hint)
        return
    found = statement_of(site.rules, entries)
    end = found.at_its_end
    words = (
        f"all {len(found.schedule)} attempts: epsilon {end.study.after:.3g} of the study's "
        f"{end.study.budget:g}, {end.lifetime.after:.3g} of {end.lifetime.budget:g} with all"
    )
    if found.refused:
        yield Finding(CheckId.STUDY_UNPAID, f"With {words}.")
    elif not end.fit:
        yield Finding(CheckId.STUDY_PARTIAL, f"With {words}.")
    else:
        yield Fact("budget", words)


def check_wish(site: RuledSite) -> Iterator[Checked]:
    """Whether the hospital has paused, or left."""
    wish = WishFile(StateFolder(site.settings.agent.state).wish).read()
    if wish is not SiteWish.RUN:
        yield Finding(CheckId.TOOK_BACK, wish.words)


def image_side(base: Path) -> int | None:
    """The side of the pictures that a base is made for, from its settings; None if they lack it."""
    try:
        unet = json.loads((base / "unet" / "config.json").read_bytes())
        vae = json.loads((base / "vae" / "config.json").read_bytes())
        return int(unet["sample_size"]) << (len(vae["block_out_channels"]) - 1)
    except (OSError, ValueError, KeyError, TypeError):
        return None
