"""`craftsfl audit export`: everything about a study in one file, for whoever wants to check it."""

# Why: docs/adr/0060-auditors-bundle.md

from __future__ import annotations

import hashlib
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Final

from craftsfl.new_file import elsewhere
from craftsfl.rounds.export_log import log_files
from craftsfl.version import installed_version
from model.layout import Layout, frozen_digest
from model.layout_text import encode_layout
from model.origin import origin_of
from privacy.audit.bundle import BundleParts, RunParts, make_bundle
from privacy.audit.checks.log import ENTRIES_FILE
from privacy.audit.checks.promotions import PROMOTIONS_FILE, promotions_in
from privacy.audit.environment import encode_environment
from privacy.audit.evidence import RunEnd
from privacy.audit.handed import HandedOver
from privacy.audit.packs import unpacked_rows
from privacy.audit.promotions import encode_promotions
from privacy.errors import AuditError, ConfigError
from privacy.files import write_public
from privacy.identity import Identity
from privacy.secagg.chain import read_rosters, roster_with
from privacy.secagg.sealed.closing import closing
from privacy.study.manifest import Study, load_study
from privacy.study.pooling import sealed_study
from server.evidence import RoundEvidence
from server.kept_layout import study_layout
from server.log_between_runs import bring_log_up_to_date
from server.own_key import coordinator_key
from server.promotion_record import PromotionRecord
from server.readiness import find_study_base, load_roster
from server.settings import ConsortiumSettings, load_consortium
from strategies.pooled import begin_chain, final_of, following

_PACKAGES: Final = ("cryptography", "dp-accounting", "numpy", "torch", "flwr", "opacus")
_OURS: Final = ("craftsfl", "server", "client", "strategies", "model", "privacy")
_MOST: Final = 1 << 30


def export_bundle(
    settings: Path, handed: Sequence[Path], out: Path, *, with_vectors: bool = True
) -> bytes:
    """Write the bundle of the study of `settings` (consortium.toml); returns its bytes.

    `handed`: what each site has handed over. Raises `CraftsflError` for what is missing.
    """
    consortium = load_consortium(settings)
    study = load_study(consortium.study)
    if consortium.database is None and not (consortium.state / "rounds.db").exists():
        raise ConfigError(
            "No run has started yet: there is nothing to audit.",
            f"Have the study run first: craftsfl rounds start {shlex.quote(str(settings))}",
        )
    load_roster(consortium, study)
    sites = _handed(handed, study)
    bring_log_up_to_date(consortium, study)
    key = coordinator_key(consortium.coordinator_key, study)
    layout = study_layout(study, find_study_base(consortium, study), consortium.layouts_folder())
    parts = bundle_parts(consortium, study, layout, sites, key)
    data = make_bundle(parts, with_vectors=with_vectors)
    try:
        write_public(out, data)
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}.", elsewhere(out)) from None
    return data


def bundle_parts(
    consortium: ConsortiumSettings,
    study: Study,
    layout: Layout,
    sites: Mapping[str, HandedOver],
    key: Identity | None,
) -> BundleParts:
    """What the coordinator has, and what the sites have handed over.

    `key`: the coordinator's, which signs the end of a run of steps again; None for other studies.
    """
    if consortium.roster is None:
        raise ConfigError("consortium.toml names no roster.", "Name the signed file.")
    rosters = read_rosters(consortium.roster)
    evidence = RoundEvidence(consortium.database_url(), study)
    claimed = origin_of(study, 0).epsilon
    runs = {
        number: evidence.parts(number, float("inf") if claimed is None else claimed)
        for number in evidence.runs()
    }
    released = [number for number in runs if evidence.released(number).sha256]
    run = released[-1] if released else 0
    if key is not None and run:
        end = _end(evidence, study, layout, runs[run], run, consortium, key)
        runs[run] = replace(runs[run], closing=end)
    more = log_files(consortium.transparency_file(), study, rosters[-1].roster, key)
    return BundleParts(
        study=consortium.study.read_bytes(),
        rosters=rosters,
        ledgers={name: one.ledger for name, one in sites.items()},
        statements={name: one.statement for name, one in sites.items()},
        runs=runs,
        run=run,
        layout=encode_layout(layout),
        adapter=_adapter(evidence, run) if run else b"",
        environment=software_stated(),
        more=more | _promotions(consortium, study, more),
    )


def _promotions(
    consortium: ConsortiumSettings, study: Study, log: Mapping[str, bytes]
) -> dict[str, bytes]:
    """The coordinator's own list; all of it has to be in the `log`, where there is one."""
    rows = PromotionRecord(consortium.promotions_file()).rows(study.digest())
    logged = promotions_in(unpacked_rows(log.get(ENTRIES_FILE, b"")))
    if log and any(row.promotion.facts() not in logged for row in rows):
        raise AuditError(
            "A promotion is not in the log yet: a run is under way, whose ServerApp has the log.",
            "Export again after its next step: craftsfl rounds status consortium.toml",
        )
    return {PROMOTIONS_FILE: encode_promotions(rows)} if rows else {}


def software_stated() -> bytes:
    """Which software the coordinator has: versions, and the digest of our own code."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    values = {
        "craftsfl": installed_version(),
        "code": code_digest(),
        "python": platform.python_version(),
        "packages": versions,
    }
    return encode_environment(values)


def code_digest() -> str:
    """SHA-256 in hex over names and bytes of all our modules, in order."""
    root = Path(__file__).resolve().parents[2]
    hashed = hashlib.sha256(b"craftsfl/code/v1\0")
    for room in _OURS:
        for path in sorted((root / room).rglob("*.py")):
            name, data = path.relative_to(root).as_posix().encode(), path.read_bytes()
            hashed.update(len(name).to_bytes(4, "big") + name)
            hashed.update(len(data).to_bytes(8, "big") + data)
    return hashed.hexdigest()


def _handed(paths: Sequence[Path], study: Study) -> dict[str, HandedOver]:
    found: dict[str, HandedOver] = {}
    for path in paths:
        try:
            if path.stat().st_size > _MOST:
                raise AuditError("It is too large.", "Take the file that the site has made.")
            one = HandedOver.decode(path.read_bytes())
        except OSError as error:
            raise ConfigError(
                f"{path} cannot be read: {error.strerror}.", "Check the path of the site's file."
            ) from None
        except AuditError as error:
            raise AuditError(f"{path}: {error.message}", error.hint) from error
        if study.site(one.site) is None or one.site in found:
            raise AuditError(
                f"{path} is of the site {one.site}, which is not in the study or is there twice.",
                "Give one file of each site of the study.",
            )
        found[one.site] = one
    missing = [site.name for site in study.sites if site.name not in found]
    if missing:
        raise AuditError(
            f"Nothing was handed over by {', '.join(missing)}.",
            "Ask each site for its file: craftsfl site hand-over site.toml -o NAME.zip",
        )
    return found


def _adapter(evidence: RoundEvidence, run: int) -> bytes:
    released = evidence.released(run)
    data = Path(released.path).read_bytes()
    if hashlib.sha256(data).hexdigest() != released.sha256:
        raise AuditError(
            f"{released.path} is not the file that was released.", "Restore it from a backup."
        )
    return data


def _end(
    evidence: RoundEvidence,
    study: Study,
    layout: Layout,
    parts: RunParts,
    run: int,
    consortium: ConsortiumSettings,
    key: Identity,
) -> RunEnd | None:
    """The coordinator's last word of the run, as it said it: nothing in it was chosen anew."""
    if consortium.roster is None or not parts.sums:
        return None
    offers = {one.offer.session: one.offer for one in parts.sessions}
    offer = offers[parts.sums[-1].session]
    roster = roster_with(read_rosters(consortium.roster), offer.roster_digest)
    terms = sealed_study(study, roster, layout.fingerprint(), frozen_digest(layout))
    chain = following(begin_chain(study, layout), parts.sums, study, roster)
    if chain.steps != study.rounds:
        return None
    close = closing(key, terms, run, parts.sums[-1].session, final_of(chain))
    return evidence.confirmed(run, roster, close)
