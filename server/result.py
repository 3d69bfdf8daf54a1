"""`result.json`: the outcome of a finished run, for whoever started it; public facts only."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from server.checkpoint import write_durably
from server.event_lines import finite
from server.mlflow_client import public_uri
from server.status import RunStatus, SiteStatus
from server.tables import RunState
from server.tracking import Tracked


@dataclass(frozen=True, slots=True)
class ReleasedFiles:
    """What a finished run publishes: the final adapter and the picture of samples."""

    adapter: Path
    samples: Path


@dataclass(frozen=True, slots=True)
class Result:
    """A finished run; `tracked` is None if MLflow could not be reached (see `warnings`)."""

    status: RunStatus
    parameters: int  # P, of the adapter
    release: ReleasedFiles
    mlflow_uri: str
    tracked: Tracked | None
    warnings: Sequence[str]


def write_result(path: Path, result: Result) -> None:
    """Write `result` to `path`. An infinite epsilon (no noise, no privacy) becomes null."""
    status, tracked = result.status, result.tracked
    content = {
        "study": status.study,
        "run": str(status.run),
        "state": RunState.FINISHED.value,
        "rounds": status.rounds_done,
        "parameters": result.parameters,
        "adapter": str(result.release.adapter),
        "samples": str(result.release.samples),
        "mlflow": public_uri(result.mlflow_uri),
        "mlflow_run": tracked.run if tracked else None,
        "model_version": tracked.version if tracked else None,
        "sites": [_site(site) for site in status.sites],
        "timings": {phase: round(seconds, 2) for phase, seconds in status.phases.items()},
        "warnings": list(result.warnings),
    }
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_durably(path, text.encode("utf-8"))


def _site(site: SiteStatus) -> dict[str, object]:
    return finite(
        {
            "name": site.name,
            "patients": site.declared_patients,
            "rounds": site.rounds,
            "epsilon": site.epsilon,
            "budget": site.budget,
            "masked": site.masked,
            "state": site.state.value,
            "reason": site.reason,
        }
    )
