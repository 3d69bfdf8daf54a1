"""The demo's folder: one settings file for each role, as a real consortium would write them."""

from __future__ import annotations

import json
import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from craftsfl.demo.figures import JUDGE, MEASURED_IMAGES, MEASURED_TILES
from craftsfl.demo.pace import slot_for
from craftsfl.demo.roster import hand_out, make_hospitals, make_roster
from craftsfl.demo.studies import (
    DELTA,
    EPSILON_BUDGET,
    KNOWN_PROMPTS,
    DemoMode,
    StudyDraft,
    study_text,
)
from craftsfl.demo.templates import (
    CONSORTIUM_TEMPLATE,
    POLICY_TEMPLATE,
    QUALITY_TEMPLATE,
    SITE_TEMPLATE,
)
from craftsfl.demo.tiles import RARE_CANCERS, held_out_folder
from craftsfl.planning.probe import probe
from craftsfl.processes.flower.credentials import make_authority, make_secret
from model.processor import multiplies_bfloat16
from privacy.errors import ConfigError
from privacy.study.manifest import Study, load_study
from server.own_key import make_coordinator_key

MARK = "craftsfl-demo"
LOGS = "logs"
COORDINATOR_KEY = "coordinator.key"
BUNDLE = "bundle.zip"  # for an auditor
MEASURED_EVERY = 10  # steps
_PROBES = 3
_NOISE = {  # of each mode: the policy's mechanism, and who adds the noise
    "pooled": ("pooled", "the hospitals' shares of the noise add up, under masks"),
    "threshold": ("local", "this site adds all of the noise itself"),
}


@dataclass(frozen=True)
class DemoOptions:
    """What was asked for on the command line."""

    folder: Path
    data: Path | None = None
    rounds: int | None = None
    port: int | None = None
    quality: bool = False  # whether the coordinator measures synthetic hospitals' held-out tiles
    supernodes: bool = False  # Flower's own in place of gateways, for comparison
    mode: DemoMode = "pooled"
    browser: bool = False  # whether to open the page
    noise_off: bool = False  # whether a noise-off reference is trained afterwards, if synthetic
    reply_slot: float | None = None  # seconds; None: what this machine needs, at its present load


@dataclass(frozen=True)
class Hospital:
    """One site of the demo."""

    name: str
    folder: Path
    data: Path
    declared_patients: int
    socket: Path

    @property
    def settings(self) -> Path:
        """Its site.toml."""
        return self.folder / "site.toml"

    @property
    def key(self) -> Path:
        """Its gateway's private key."""
        return self.folder / "supernode.key"


@dataclass(frozen=True)
class Workspace:
    """All folders and files of a demo."""

    folder: Path
    study: Study
    hospitals: tuple[Hospital, ...]
    runtime: Path  # a short path, for sockets only

    @property
    def consortium(self) -> Path:
        """The coordinator's settings."""
        return self.folder / "coordinator" / "consortium.toml"

    @property
    def study_file(self) -> Path:
        """The public manifest."""
        return self.folder / "study.toml"

    @property
    def logs(self) -> Path:
        """Where every process writes its output."""
        return self.folder / LOGS


@dataclass(frozen=True)
class HospitalDraft:
    """A hospital before its files are written."""

    name: str
    data: Path
    declared_patients: int


def declare(patients: int) -> int:
    """A rounded cohort size to declare: up to the next ten (below ten, to the next even number).

    So one patient more or less does not show, and the true count stays within a factor of two of
    the declared one, as a site agent demands.
    """
    step = 10 if patients >= 10 else 2
    return math.ceil(patients / step) * step


def check_ours(folder: Path) -> None:
    """Raise `ConfigError` unless `folder` is new, empty or from an earlier demo."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file.", "Choose another folder with --dir.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise ConfigError(
            f"{folder} is not empty and no earlier demo made it.",
            "Choose another folder with --dir.",
        )


def clear_folder(folder: Path) -> Path | None:
    """Make room for a new demo in `folder`: results of an earlier one move to `folder`/earlier.

    The hospitals' data stay where they are. Returns where the results are now, if there were any.
    Raises `ConfigError` if the folder is not writable.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
        old = [path for path in folder.iterdir() if path.name not in (MARK, "earlier", "data")]
        if not old:
            return None
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        kept = folder / "earlier" / stamp
        kept.mkdir(parents=True)
        for path in old:
            shutil.move(path, kept / path.name)
        return kept
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written: {error.strerror}.", "Choose another folder with --dir."
        ) from None


def slot_needed(members: Sequence[HospitalDraft], mode: DemoMode = "pooled") -> float:
    """The reply slot in seconds that this machine needs, at its present load."""
    declared = sum(member.declared_patients for member in members)
    # The slowest of a few: a machine is rarely as quiet for minutes as it is for a moment.
    slowest = max(probe() for _ in range(_PROBES))
    return slot_for(mode, declared, slowest, bfloat16=multiplies_bfloat16())


def write_workspace(
    options: DemoOptions,
    members: Sequence[HospitalDraft],
    base_digest: str,
    port: int,
    reply_slot: float | None = None,
) -> Workspace:
    """Write every settings file and key of the demo into `options.folder`.

    Unless given, the study's `reply_slot` is what this machine needs.
    """
    slot = reply_slot or slot_needed(members, options.mode)
    folder = options.folder.resolve()
    folders = {member.name: folder / "hospitals" / member.name for member in members}
    signed = make_roster(make_hospitals(folders))
    _write_coordinator(folder / "coordinator", port, _quality_text(options, members))
    draft = StudyDraft(
        name="demo" if options.data is None else "demo-real-tiles",
        rounds=options.rounds,
        base_digest=base_digest,
        roster=signed.roster.digest().hex(),
        reply_slot=slot,
        declared={member.name: member.declared_patients for member in members},
        prompts=RARE_CANCERS if options.data is None else KNOWN_PROMPTS,
        coordinator_key=make_coordinator_key(folder / "coordinator" / COORDINATOR_KEY).hex(),
    )
    study_file = folder / "study.toml"
    study_file.write_text(study_text(options.mode, draft), "utf-8")
    study = load_study(study_file)
    runtime = Path(tempfile.mkdtemp(prefix="craftsfl-"))
    hand_out(signed, [folder / "coordinator", *folders.values()])
    way = _WayToCoordinator(
        superlink=f"localhost:{port}",
        authority=folder / "coordinator" / "tls" / "ca.pem",
        kind="supernode" if options.supernodes else "gateway",
    )
    noise = _NOISE[options.mode]
    hospitals = tuple(
        _write_hospital(folder, member, study, runtime, way, noise) for member in members
    )
    return Workspace(folder, study, hospitals, runtime)


def _quality_text(options: DemoOptions, members: Sequence[HospitalDraft]) -> str:
    if options.data is not None or not options.quality:
        return ""
    folders = [str(held_out_folder(options.folder.resolve(), item.name)) for item in members]
    return QUALITY_TEMPLATE.format(
        folders=json.dumps(folders),
        every=MEASURED_EVERY if options.mode == "pooled" else 1,
        tiles=MEASURED_TILES,
        judge=json.dumps(JUDGE),
        images=MEASURED_IMAGES,
    )


def _write_coordinator(folder: Path, port: int, quality: str) -> None:
    folder.mkdir()
    make_authority(folder / "tls")
    make_secret(folder / "superexec.secret")
    text = CONSORTIUM_TEMPLATE.format(port=port) + quality
    (folder / "consortium.toml").write_text(text, "utf-8")


@dataclass(frozen=True)
class _WayToCoordinator:
    superlink: str  # host:port
    authority: Path
    kind: str  # of [gateway]


def _write_hospital(
    root: Path,
    member: HospitalDraft,
    study: Study,
    runtime: Path,
    way: _WayToCoordinator,
    noise: tuple[str, str],
) -> Hospital:
    folder = root / "hospitals" / member.name
    hospital = Hospital(
        name=member.name,
        folder=folder,
        data=member.data.resolve(),
        declared_patients=member.declared_patients,
        socket=runtime / f"{member.name}.sock",
    )
    policy = POLICY_TEMPLATE.format(
        epsilon=EPSILON_BUDGET,
        delta=DELTA,
        mechanism=noise[0],
        who_adds=noise[1],
        study=study.digest().hex(),
        base=study.base.digest,
        roster=study.secure_aggregation.roster,
        reply_slot=study.cohort.reply_slot,
    )
    (folder / "policy.toml").write_text(policy, "utf-8")
    hospital.settings.write_text(
        SITE_TEMPLATE.format(
            name=member.name,
            study=json.dumps(str(root / "study.toml")),
            data=json.dumps(str(hospital.data)),
            socket=json.dumps(str(hospital.socket)),
            superlink=way.superlink,
            authority=json.dumps(str(way.authority)),
            kind=way.kind,
        ),
        "utf-8",
    )
    return hospital
