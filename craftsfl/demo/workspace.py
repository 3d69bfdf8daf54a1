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

from craftsfl.demo.pace import probe, slot_for
from craftsfl.demo.roster import hand_out, make_hospitals, make_roster
from craftsfl.processes.flower.credentials import make_authority, make_secret
from privacy.accounting import calibrate_noise_multiplier
from privacy.errors import ConfigError
from privacy.secagg.offer import most_absent
from privacy.secagg.roster import SignedRoster
from privacy.secagg.width import coordinate_bound
from privacy.study.agreement import masking_settings
from privacy.study.manifest import Study, load_study

MARK = "craftsfl-demo"
LOGS = "logs"
EPSILON_BUDGET = 8.0
EPSILON_PLANNED = 7.5  # of the whole study: what is left shows that a budget is not used up
SAMPLING_RATE = 0.25
STEPS_PER_ROUND = 6
DELTA = 1e-5
ROUNDS = 2  # each costs five exchanges of some seconds each, and waits for its reply slot
LEARNING_RATE = 0.03
LARGEST_ADAPTER = 1_000_000  # parameters; the bound grows with the root of its logarithm only

STUDY = """\
# The public manifest of the study: every site and the coordinator hold the same file.
name = "{name}"
rounds = {rounds}

[base]
digest = "{digest}"
source = "tiny"

[adapter]
targets = {targets}
rank = 1
alpha = 1.0

[training]
sampling_rate = {sampling_rate}       # q: each patient enters a step with this probability
steps = {steps}                  # local DP-SGD steps a round
tiles_per_patient = 1      # k
draws_per_tile = 1         # m: (t, noise) draws a tile, averaged before the clip
clipping_norm = {clipping_norm}
noise_multiplier = {noise_multiplier}
optimizer = "adam"
learning_rate = {learning_rate}

[privacy]
delta = {delta}
attempts = 2               # a round in which a hospital drops out is tried once more

[aggregation]
strategy = "fedavg"
secure_aggregation = "required" # the coordinator sees the sum over the hospitals alone

[secure_aggregation]
roster = "{roster}"
bound = {bound}             # the largest coordinate of a weighted, rotated update
bits = 16                  # of a packed coordinate
exchange_deadline = 120.0  # seconds; everybody shares one machine here

[cohort]
min_sites = {min_sites}              # of all hospitals, few may be missing from a sum
round_deadline = 600.0
reply_slot = {reply_slot}        # seconds: an update leaves then or never; longer than training

{sites}
[samples]
prompts = {prompts}
seeds = [11, 12]
"""

POLICY = """\
# What this hospital allows. There is no default budget.
epsilon = {epsilon}         # of its patients, for ever
delta = {delta}
study_epsilon = {epsilon}   # of this study
studies = ["{study}"]
bases = ["{base}"]
mechanisms = ["local"]      # this site adds all of the noise itself
secure_aggregation = "required" # the coordinator sees the sum over the hospitals alone
roster = "{roster}"
# THIS IS A DEMO. No hospital should allow a slot as short as this one: the time that training takes
# tells who was drawn, and only a slot that is longer than any training hides it. On this machine,
# with synthetic patients or few of them, nobody wants to wait for the 60 s and more of the default.
min_reply_slot = {reply_slot}
"""

SITE = """\
name = "{name}"
study = {study}
policy = "policy.toml"

[data]
folder = {data}
patient_ids_confirmed = true            # the demo has looked at them

[agent]
state = "state"
socket = {socket}

[identity]
key = "site.key"
roster = "roster.cfl"

[supernode]
superlink = "{superlink}"
root_certificates = {authority}
key = "supernode.key"
flwr_home = "flwr"
"""

CONSORTIUM = """\
study = "../study.toml"
roster = "roster.cfl"
state = "state"
join_deadline = 120.0

[superlink]
host = "127.0.0.1"
port = {port}
folder = "superlink"
authority = "tls/ca.pem"
certificate = "tls/server.pem"
key = "tls/server.key"
secret = "superexec.secret"
"""

PROMPTS = (
    "colon adenocarcinoma, colon: round glands with open lumens.",
    "diffuse large B-cell lymphoma, lymph node: dense lymphoid sheets.",
    "sarcoma, soft tissue: fascicles of spindle cells.",
    "breast invasive carcinoma, breast: pale pools of mucin.",
)
TARGETS = ("attn1.to_v", "attn1.to_out.0", "attn2.to_v", "attn2.to_out.0")


@dataclass(frozen=True)
class DemoOptions:
    """What was asked for on the command line."""

    folder: Path
    data: Path | None = None
    rounds: int | None = None
    port: int | None = None


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
        """Its SuperNode's private key."""
        return self.folder / "supernode.key"


@dataclass(frozen=True)
class Workspace:
    """All folders and files of a demo."""

    folder: Path
    study: Study
    hospitals: tuple[Hospital, ...]
    runtime: Path  # short: sockets only

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
        """Where every process's output goes."""
        return self.folder / LOGS


@dataclass(frozen=True)
class Member:
    """A hospital before its files are written."""

    name: str
    data: Path
    declared_patients: int


def declare(patients: int) -> int:
    """A rounded cohort size to declare: up to the next ten (two, below ten).

    So that one patient more or less does not show, and the true count stays within the factor of
    two of the declared one that a site agent asks for.
    """
    step = 10 if patients >= 10 else 2
    return math.ceil(patients / step) * step


def check_ours(folder: Path) -> None:
    """Raise `ConfigError` unless `folder` is new, empty or an earlier demo's."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder} is a file.", "Choose another folder with --dir.")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise ConfigError(
            f"{folder} is not empty and no earlier demo made it.",
            "Choose another folder with --dir.",
        )


def clear(folder: Path) -> None:
    """Make room for a new demo in `folder`: results of an earlier one move to `folder`/earlier.

    Hospitals' data stays where it is. Raises `ConfigError` where the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MARK).touch()
        old = [path for path in folder.iterdir() if path.name not in (MARK, "earlier", "data")]
        if old:
            stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
            kept = folder / "earlier" / stamp
            kept.mkdir(parents=True)
            for path in old:
                shutil.move(path, kept / path.name)
    except OSError as error:
        raise ConfigError(
            f"{folder} cannot be written: {error.strerror}.", "Choose another folder with --dir."
        ) from None


def write(
    options: DemoOptions,
    members: Sequence[Member],
    base_digest: str,
    port: int,
    reply_slot: float | None = None,
) -> Workspace:
    """Write every settings file and key of the demo into `options.folder`.

    The study's `reply_slot` is what this machine needs, unless it is given.
    """
    slot = reply_slot or slot_for(_drawn(members), probe())
    folder = options.folder.resolve()
    folders = {member.name: folder / "hospitals" / member.name for member in members}
    signed = make_roster(make_hospitals(folders))
    study_file = folder / "study.toml"
    study_file.write_text(_study_text(options, members, base_digest, signed, slot), "utf-8")
    study = load_study(study_file)
    runtime = Path(tempfile.mkdtemp(prefix="craftsfl-"))
    _write_coordinator(folder / "coordinator", port)
    hand_out(signed, [folder / "coordinator", *folders.values()])
    authority = folder / "coordinator" / "tls" / "ca.pem"
    hospitals = tuple(
        _write_hospital(folder, member, study, runtime, f"localhost:{port}", authority)
        for member in members
    )
    return Workspace(folder, study, hospitals, runtime)


def _study_text(
    options: DemoOptions,
    members: Sequence[Member],
    base_digest: str,
    signed: SignedRoster,
    reply_slot: float,
) -> str:
    rounds = options.rounds or ROUNDS
    sites = "".join(
        f'[[sites]]\nname = "{member.name}"\ndeclared_patients = {member.declared_patients}\n\n'
        for member in members
    )
    return STUDY.format(
        name="demo" if options.data is None else "demo-real-tiles",
        rounds=rounds,
        digest=base_digest,
        targets=json.dumps(TARGETS),
        clipping_norm=0.05,
        noise_multiplier=_noise_multiplier(rounds),
        steps=STEPS_PER_ROUND,
        sampling_rate=SAMPLING_RATE,
        learning_rate=LEARNING_RATE,
        delta=DELTA,
        roster=signed.roster.digest().hex(),
        bound=_bound(members),
        reply_slot=reply_slot,
        min_sites=len(members) - most_absent(len(members)),
        sites=sites,
        prompts=json.dumps(PROMPTS),
    )


def _drawn(members: Sequence[Member]) -> float:
    """How many patients all hospitals together draw in a round, on average."""
    declared = sum(member.declared_patients for member in members)
    return declared * SAMPLING_RATE * STEPS_PER_ROUND


def _bound(members: Sequence[Member]) -> float:
    """B of a round: Adam moves a parameter by about the learning rate a step, whatever the noise.

    Rotated, such an update of length r has coordinates of about r / sqrt(d).
    """
    declared = [member.declared_patients for member in members]
    moved = max(declared) / sum(declared) * STEPS_PER_ROUND * LEARNING_RATE
    norm = moved * math.sqrt(LARGEST_ADAPTER)
    return math.ceil(coordinate_bound(norm, LARGEST_ADAPTER, len(members)) * 1000) / 1000


def _noise_multiplier(rounds: int) -> float:
    """Sigma for which `rounds` rounds cost a patient `EPSILON_PLANNED`."""
    sigma = calibrate_noise_multiplier(
        epsilon=EPSILON_PLANNED,
        delta=DELTA,
        sampling_rate=SAMPLING_RATE,
        steps=rounds * STEPS_PER_ROUND,
    )
    return math.ceil(sigma * 1000) / 1000


def _write_coordinator(folder: Path, port: int) -> None:
    folder.mkdir()
    make_authority(folder / "tls")
    make_secret(folder / "superexec.secret")
    (folder / "consortium.toml").write_text(CONSORTIUM.format(port=port), "utf-8")


def _write_hospital(
    root: Path, member: Member, study: Study, runtime: Path, superlink: str, authority: Path
) -> Hospital:
    folder = root / "hospitals" / member.name
    hospital = Hospital(
        name=member.name,
        folder=folder,
        data=member.data.resolve(),
        declared_patients=member.declared_patients,
        socket=runtime / f"{member.name}.sock",
    )
    policy = POLICY.format(
        epsilon=EPSILON_BUDGET,
        delta=DELTA,
        study=study.digest().hex(),
        base=study.base.digest,
        roster=masking_settings(study).roster,
        reply_slot=study.cohort.reply_slot,
    )
    (folder / "policy.toml").write_text(policy, "utf-8")
    hospital.settings.write_text(
        SITE.format(
            name=member.name,
            study=json.dumps(str(root / "study.toml")),
            data=json.dumps(str(hospital.data)),
            socket=json.dumps(str(hospital.socket)),
            superlink=superlink,
            authority=json.dumps(str(authority)),
        ),
        "utf-8",
    )
    return hospital
