"""`craftsfl audit key` and `sign`: an auditor's key, and a signed verdict on a bundle."""

from __future__ import annotations

import os
import time
from pathlib import Path

from craftsfl.audit.verdict import AuditVerdict, verify_bundle
from craftsfl.new_file import write_new_file
from craftsfl.passphrase import identity_in
from privacy.audit.checks.membership import KnownDigests
from privacy.audit.evidence import ADAPTER_FILE, Evidence
from privacy.audit.signoff import SignedVerdict
from privacy.errors import AuditError, ConfigError
from privacy.identity import A_STUDYS_KEY, Identity


def check_new_key(path: Path) -> None:
    """Raise `ConfigError` where no key can be made, before anybody types a passphrase for it."""
    if os.path.lexists(path):
        raise ConfigError(f"{path} already exists.", A_STUDYS_KEY)
    if not path.parent.is_dir():
        raise ConfigError(f"{path.parent} is not a folder.", "Make it first.")


def make_auditor_key(path: Path, passphrase: bytes | None) -> str:
    """Make a key in the file `path` (mode 0600); its public half in hex, for the manifest.

    Raises `ConfigError` if the file exists or cannot be made.
    """
    identity = Identity.generate()
    identity.write_new(path, passphrase, if_there=A_STUDYS_KEY)
    return identity.public.hex()


def released_adapter(evidence: Evidence) -> str:
    """SHA-256 in hex of the adapter that is in a bundle; "" where there is none in it."""
    if ADAPTER_FILE not in evidence.files:
        return ""  # its digest would be the coordinator's word alone
    run = evidence.runs.get(evidence.index.run)
    return "" if run is None else run.record.released


def sign_bundle(
    data: bytes, name: str, key: Path, out: Path, known: KnownDigests | None = None
) -> tuple[AuditVerdict, SignedVerdict]:
    """Verify the bundle `data` and write a signed verdict on it to `out`.

    `known`: what it has to be of. Raises `AuditError` for one that does not hold, and for a name or
    key that its manifest does not list.
    """
    verdict = verify_bundle(data, known)
    evidence = verdict.evidence
    if evidence is None or not verdict.passed:
        raise AuditError(
            f"The bundle does not hold: {verdict.failures[0]}",
            "It is not signed. Show it to the consortium: craftsfl audit verify BUNDLE",
        )
    identity = identity_in(key)
    listed = evidence.study.auditors
    keys = {} if listed is None else {one.name: one.key for one in listed.keys}
    if keys.get(name) != identity.public.hex():
        raise AuditError(
            f"The manifest of {evidence.study.name} does not list this key for {name}.",
            f"It lists {name} with the key {keys[name]}, and this one is {identity.public.hex()}: "
            "give the file of that key with --key."
            if name in keys
            else f"It lists {', '.join(keys)}: give that name with --name."
            if keys
            else "It lists no auditors, and nobody is added during a study. Anybody may verify it: "
            "craftsfl audit verify BUNDLE",
        )
    unsigned = SignedVerdict(
        auditor=name,
        bundle=verdict.digest,
        study=evidence.index.study,
        run=evidence.index.run,
        adapter=released_adapter(evidence),
        not_recomputed=len(verdict.not_recomputed),
        time=int(time.time()),
    )
    signed = SignedVerdict.signed(unsigned, identity)
    write_new_file(out, signed.encode())
    return verdict, signed
