"""`craftsfl site check`: everything, or the quick part that `site serve` runs first.

It changes nothing that the agent reads, and takes nothing on trust from an earlier check but what
it saw of pictures that are still the same files. The order is that of a person's interest; a check
that cannot be made because an earlier one failed is left out.
"""

# Why: docs/adr/0058-the-hospitals-desk.md

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from client.agent.startup import RuledSite, load_rules
from client.agent.state import StateFolder, lock_is_held
from client.data import load_site_data
from client.data.imagefolder import SiteTile
from client.data.metadata import read_rows
from client.patients import open_patients
from client.settings import load_site
from craftsfl.processes.accounts import ROOT
from craftsfl.site.check import machine, study
from craftsfl.site.check.connection import check_connection
from craftsfl.site.check.data import SeenData, check_data
from craftsfl.site.check.finding import Checked, CheckId, Fact, Finding
from craftsfl.site.check.looks import Looks
from craftsfl.site.check.pace import check_pace
from craftsfl.site.check.report import Report, report_values, show_report
from craftsfl.site.site_file import as_agents_user
from craftsfl.terminal import output
from model.cache import find_base
from privacy.errors import CraftsflError

_Part = Callable[[Sequence[Checked]], Iterable[Checked]]


def check_site(
    site_toml: Path, *, quick: bool = False, airlock: Sequence[Checked] | None = None
) -> Report:
    """Check the site of `site_toml`; `quick` looks at no data, no accountant and no model.

    `airlock`: what root has found of it, before it became the agent's user.
    """
    more = (lambda site: ()) if quick else thorough_checks

    def parts(site: RuledSite) -> tuple[_Part, ...]:
        return (*quick_checks(site, hashed=not quick, airlock=airlock), *more(site))

    return _report(site_toml, parts)


def airlock_for_root(site_toml: Path) -> Sequence[Checked] | None:
    """What only root can try, as the gateway's user; None for anybody else, or without users."""
    if os.geteuid() != ROOT:
        return None
    settings = load_site(site_toml)
    if settings.agent.user is None:
        return None
    return _tried(lambda _: machine.check_airlock(settings), ())


def check_before_serving(site_toml: Path) -> Report:
    """What `site serve` looks at first. It decides nothing: the agent has its own checks."""
    return _report(site_toml, first_checks)


def _report(site_toml: Path, parts_of: Callable[[RuledSite], Iterable[_Part]]) -> Report:
    checked: list[Checked] = []
    try:
        site = load_rules(site_toml)
        _ = site.rules.declared_patients
    except CraftsflError as error:
        checked.append(Finding(CheckId.SETTINGS, error.message, error.hint))
        return Report(site_toml.name, tuple(checked))
    for part in parts_of(site):
        checked.extend(_tried(part, checked))
    return Report(site.settings.name, tuple(checked))


def show_check(site_toml: Path, *, quick: bool, as_json: bool) -> int:
    """Print what the check of a site says; returns the exit status."""
    airlock = airlock_for_root(site_toml)
    report = check_site(as_agents_user(site_toml), quick=quick, airlock=airlock)
    if as_json:
        output().print_json(json.dumps(report_values(report)), highlight=False)
    else:
        show_report(report, output())
    return report.exit_status


def first_checks(site: RuledSite, *, hashed: bool = False) -> tuple[_Part, ...]:
    """What takes a moment: study, keys, roster, base, room and versions."""
    settings = site.settings
    return (
        lambda _: study.check_against_policy(site),
        lambda _: study.check_wish(site),
        lambda _: machine.check_private_files(settings),
        lambda said: () if _has(said, CheckId.PRIVATE_FILES) else study.check_roster(site),
        lambda _: study.check_pinned_base(site, hashed=hashed),
        lambda _: machine.check_room(settings),
        lambda _: machine.check_versions(),
    )


def quick_checks(
    site: RuledSite, *, hashed: bool = False, airlock: Sequence[Checked] | None = None
) -> tuple[_Part, ...]:
    """The same, the separation of the processes, and the way to the coordinator: some seconds."""
    settings, policy, gateway = site.settings, site.rules.policy, site.settings.gateway
    return (
        *first_checks(site, hashed=hashed),
        lambda _: machine.check_socket(settings),
        lambda _: machine.check_airlock(settings) if airlock is None else airlock,
        lambda _: machine.check_network(policy),
        lambda _: () if gateway is None else check_connection(gateway),
    )


def thorough_checks(site: RuledSite) -> tuple[_Part, ...]:
    """The whole schedule's cost, the data, and the model."""
    tiles: list[SiteTile] = []
    return (
        lambda said: () if _has(said, CheckId.PRIVATE_FILES) else study.check_ledger(site),
        lambda _: _about_data(site, tiles),
        lambda _: machine.check_device(site.settings),
        lambda said: () if _has(said, CheckId.BASE) else _about_pace(site, tiles),
    )


def _about_data(site: RuledSite, tiles: list[SiteTile]) -> Iterator[Checked]:
    """The data folder, whose usable `tiles` are added to the list."""
    try:
        seen = see_data(site)
    except CraftsflError as error:
        yield Finding(CheckId.DATA_UNREADABLE, error.message, error.hint)
        return
    tiles.extend(seen.data.tiles)
    yield from check_data(seen)
    if doubt := site.rules.cohort_doubt(seen.data.patients):
        yield Finding(CheckId.COHORT_SIZE, f"{doubt}.")


def see_data(site: RuledSite) -> SeenData:
    """Read the data folder as the agent does, without those who withdrew; raises `DataError`."""
    folder, state = site.settings.data.folder, StateFolder(site.settings.agent.state)
    looks = Looks(state.looks if _is_own(state.path) else None)
    with ExitStack() as stack:
        if state.patients.exists():
            patients = stack.enter_context(open_patients(state.path))
            data = load_site_data(
                folder,
                lines_of=lambda seen: [patients.standing(name) for name, _ in seen],
                line_of=patients.standing,
                look=looks.look,
            ).without(patients.register.withdrawn())
        else:
            data = load_site_data(folder, look=looks.look)
    with suppress(OSError):  # the next check only takes longer
        looks.keep()
    return SeenData(
        data,
        read_rows(folder.resolve()),
        {tile.row: looks.seen[tile.path] for tile in data.tiles},
        _side(site),
    )


def _side(site: RuledSite) -> int | None:
    try:
        base = find_base(site.rules.study.base, root=site.settings.study.parent, verify=False)
    except CraftsflError:
        return None
    return study.image_side(base)


def _about_pace(site: RuledSite, tiles: Sequence[SiteTile]) -> Iterator[Checked]:
    if lock_is_held(StateFolder(site.settings.agent.state).trainer_lock):
        yield Fact("pace", "not timed: the agent's trainer has the device")
        return
    base = find_base(site.rules.study.base, root=site.settings.study.parent)
    yield from check_pace(site, base, tiles)


def _is_own(state: Path) -> bool:
    """Whether something may be kept there: a folder that root made would stop the agent."""
    try:
        return state.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _has(said: Iterable[Checked], id: CheckId) -> bool:
    return any(isinstance(item, Finding) and item.id is id for item in said)


def _tried(part: _Part, said: Sequence[Checked]) -> list[Checked]:
    """What a part says; an error that it did not expect becomes a finding too."""
    done: list[Checked] = []
    try:
        done.extend(part(said))
    except CraftsflError as error:
        done.append(Finding(CheckId.SETTINGS, error.message, error.hint))
    return done
