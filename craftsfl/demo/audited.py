"""The demo's last act: its own bundle for an auditor, made and verified as anybody would."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from craftsfl.audit.verdict import verify_bundle
from craftsfl.demo.workspace import BUNDLE, Workspace
from craftsfl.rounds.export import export_bundle
from craftsfl.site.hand_over import write_hand_over
from privacy.errors import AuditError

_HANDED: Final = "handed-over"


def bundle_of(workspace: Workspace) -> Path:
    """The bundle of the demo's study, verified. Raises `AuditError` for one that does not hold."""
    folder = workspace.folder / _HANDED
    folder.mkdir(mode=0o700, exist_ok=True)
    handed = []
    for hospital in workspace.hospitals:
        path = folder / f"{hospital.name}.zip"
        path.unlink(missing_ok=True)  # an earlier demo's: it hands nothing over in another's place
        write_hand_over(hospital.settings, path)
        handed.append(path)
    out = workspace.folder / BUNDLE
    verdict = verify_bundle(export_bundle(workspace.consortium, handed, out))
    if not verdict.passed:
        raise AuditError(
            f"The demo's own bundle does not hold: {verdict.failures[0]}",
            f"Look at all of it: craftsfl audit verify {out}",
        )
    return out
