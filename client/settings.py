"""The hospital's two files: `site.toml` (where things are) and `policy.toml` (what is allowed)."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, field_validator, model_validator

from privacy.config import (
    Count,
    Fraction,
    Positive,
    SiteName,
    Strict,
    VariableName,
    load_toml,
    refuse_plain,
)
from privacy.errors import DeploymentError
from privacy.events import ALWAYS_CHARGED, Observer
from privacy.home import from_home
from privacy.mechanisms.registry import mechanism_names
from privacy.secagg.offer import SMALLEST_COHORT
from privacy.study.pooled import LEAST_GRID

ANY = "any"
_LONGEST_FOLDER = 60  # a Unix socket's whole path must stay below about 104 bytes


OBSERVERS: Final = ALWAYS_CHARGED


def _mechanism_name(name: str) -> str:
    if name not in mechanism_names():
        raise ValueError(f"{name!r} is not a mechanism; use {' or '.join(mechanism_names())}")
    return name


MechanismName = Annotated[str, AfterValidator(_mechanism_name)]
SystemUser = Annotated[str, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")]


class DataSettings(Strict):
    """`[data]`: the folder with the tiles and `metadata.csv|jsonl|parquet`."""

    folder: Path
    # A person has checked: patient_id names persons, not slides, blocks or examinations. The agent
    # requires it, whatever the table holds.
    patient_ids_confirmed: bool = False


class AgentSettings(Strict):
    """`[agent]`: the process that owns data, model, ledger and policy."""

    state: Path  # ledger, quarantine list, caches; created with mode 0700
    socket: Path | None = None
    socket_mode: Literal["0600", "0660"] = "0600"  # 0660: the gateway runs as another user
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    # Of the frozen layers on a CPU. "auto": bfloat16 where that is measured to be faster.
    precision: Literal["auto", "float32"] = "auto"
    user: SystemUser | None = None  # as whom root starts it; None: as the command's user
    environment: tuple[VariableName, ...] = ()  # further variables that it gets


class IdentitySettings(Strict):
    """`[identity]`: who the site is among the hospitals, and who they are."""

    key: Path  # Ed25519, mode 0600; craftsfl site init makes it, and it never leaves the site
    roster: Path  # the signed rosters, from the first to the newest
    passphrase_file: Path | None = None  # one line, mode 0600; if the key has a passphrase


class GatewaySettings(Strict):
    """`[gateway]`: the network-facing process; it sees no data and no ledger."""

    # "gateway": ours, resident. "supernode": Flower's flower-supernode, which runs the
    # coordinator's bundle for every message.
    kind: Literal["gateway", "supernode"] = "gateway"
    superlink: Annotated[str, Field(pattern=r"^[^\s:/]+:\d{1,5}$")]  # host:port of the Fleet API
    root_certificates: Path | None = None  # PEM; None: the system's own authorities
    key: Path  # OpenSSH NIST-EC private key that the operator registered
    home: Path  # what it remembers, and its log; FLWR_HOME of a SuperNode
    user: SystemUser | None = None  # not the agent's
    environment: tuple[VariableName, ...] = ()  # further variables that it gets
    # Seconds between two looks for messages: bounds for what the coordinator wishes.
    fastest_look: Annotated[float, Field(ge=0.02, le=60)] = 0.1
    slowest_look: Annotated[float, Field(ge=0.1, le=60)] = 3.0
    largest_message: Annotated[int, Field(ge=1, le=4096)] = 256  # MiB that are carried to the agent

    @model_validator(mode="after")
    def _are_bounds(self) -> Self:
        if self.fastest_look > self.slowest_look:
            raise ValueError(
                f"fastest_look {self.fastest_look:g} is above slowest_look {self.slowest_look:g}"
            )
        return self


class SiteSettings(Strict):
    """The whole of `site.toml`."""

    name: SiteName
    study: Path
    policy: Path
    data: DataSettings
    agent: AgentSettings
    identity: IdentitySettings | None = None  # required where updates are masked
    gateway: GatewaySettings | None = None

    supernode: None = None  # the older name of [gateway], to say so

    @field_validator("supernode", mode="before")
    @classmethod
    def _is_called_gateway_now(cls, table: object) -> None:
        if table is not None:
            raise ValueError(
                "[supernode] is called [gateway] now, and its flwr_home is called home. The key "
                'stays registered. To go on with Flower\'s SuperNode, add kind = "supernode" there'
            )

    def socket_path(self) -> Path:
        """The socket between agent and gateway; creates the runtime folder if it is there."""
        return self.agent.socket or runtime_folder() / f"{self.name}.sock"


class Policy(Strict):
    """The whole of `policy.toml`: the site's own bounds, checked before anything is computed.

    `epsilon` and `delta` bound everything that ever leaves this site, over all studies, for
    patients as the unit; `study_epsilon` bounds each study. Anything not allowed is forbidden: no
    budget, study, base model or mechanism has a default.
    """

    epsilon: Positive
    delta: Annotated[float, Field(gt=0, lt=1e-3)]
    study_epsilon: Positive
    studies: tuple[str, ...] = Field(min_length=1)
    bases: tuple[str, ...] = Field(min_length=1)
    # Frozen encoders that may look at the tiles, for the loss of stage two; none unless named.
    encoders: tuple[str, ...] = ()
    mechanisms: tuple[MechanismName, ...] = Field(min_length=1)
    # Against whom the budget holds: each charge is the worst of what they would learn. All of them
    # exist in every study, so none can be left out. "masks-broken" may be added: then each charge
    # also covers whoever undoes the masks of a pooled study, and sees the site's share by itself.
    observers: tuple[Observer, ...] = OBSERVERS
    secure_aggregation: Literal["required"] = "required"  # the coordinator sees sums only
    roster: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # the study's, by digest
    # The masks must withstand at least this many sites colluding with the coordinator; 0: no demand
    # beyond what they withstand anyway, which is the most that the cohort's size allows.
    max_colluders: Annotated[int, Field(ge=0)] = 0
    # How many of the study's sites a sum may lack; None: `privacy.secagg.offer.most_absent`.
    max_absent: Annotated[int, Field(ge=0)] | None = None
    min_cohort: Annotated[int, Field(ge=SMALLEST_COHORT)] = SMALLEST_COHORT  # sites in a sum
    # How the studies add up: (epsilon, delta) summed, or a Renyi filter of a fixed order.
    # "gdp-filter", for sites that take part in pooled studies only: the squares of their mu add up.
    # `composition` is another name of this key.
    across_studies: Annotated[
        Literal["sum", "rdp-filter", "gdp-filter"],
        Field(validation_alias=AliasChoices("across_studies", "composition")),
    ] = "sum"
    rdp_order: Annotated[int, Field(ge=2, le=1024)] | None = None
    max_rounds: Count = 1000
    max_attempts: Count = 3
    # Attempts of a study, over all its runs, that were superseded before anyone looked at them in
    # their slot. Nothing about them was revealed, so they are not charged, but each costs computing
    # time and an entry in the ledger. None: 2 x the study's rounds.
    max_lost_attempts: Count | None = None
    # How far above the newest run of a study the next one may be numbered. One attempt cannot burn
    # more numbers than that; raise it if the coordinator's operator says on the phone that the
    # study's runs have come so far without this site.
    max_run_jump: Count = 1000
    # Whether a study may begin although all of its attempts together would exceed a budget. It then
    # ends wherever the budget does, and what was charged until then is gone.
    allow_partial: bool = False
    # Seconds from the start of an attempt to the only moment at which its update may leave. What is
    # not ready by then never leaves, so that the moment reveals nothing about the draw.
    min_reply_slot: Positive = 60.0
    max_steps_per_round: Count = 1000
    max_sampling_rate: Fraction = 1.0
    max_tiles_per_patient: Count = 16
    max_draws_per_tile: Count = 16
    max_clipping_norm: Positive = 10.0
    max_learning_rate: Positive = 1.0
    max_rank: Count = 64
    # L2 norm of an adapter that the coordinator sends. What it reveals of a patient is bounded for
    # any; one that is much larger than training makes it is not an honest one.
    max_adapter_norm: Positive = 300.0
    min_noise_multiplier: Positive = 0.3
    # Of pooled studies, whose noise is the sum of the sites' shares. A site refuses terms that are
    # weaker than these, and never makes its own share larger instead.
    min_grid: Annotated[float, Field(ge=LEAST_GRID)] = LEAST_GRID
    min_noise_colluders: Annotated[int, Field(ge=0)] = 0
    max_spare_attempts: Annotated[int, Field(ge=0)] = 1000
    max_session_hours: Annotated[float, Field(gt=0, le=12)] = 12.0
    # Of pooled studies: whether steps have to be under a checkpoint of the consortium's log that
    # enough others have cosigned. What a coordinator says of a log has to hold in either case, and
    # a site that has cosigned a log once takes no step without it.
    log: Literal["required", "when-present"] = "when-present"
    allow_no_privacy: bool = False
    allow_agent_network: bool = False  # start even if the system cannot cut the agent off
    max_parameters: Count = 50_000_000

    @field_validator("secure_aggregation", mode="before")
    @classmethod
    def _is_not_plain(cls, mode: object) -> object:
        return refuse_plain(mode, "remove the line, and name the consortium's roster")

    @field_validator("studies")
    @classmethod
    def _are_digests(cls, studies: tuple[str, ...]) -> tuple[str, ...]:
        for study in studies:
            if study != ANY and not _is_hex_digest(study):
                raise ValueError(
                    'each entry is the 64 hex digits of a study\'s digest, or "any" spelled out'
                )
        return studies

    @field_validator("observers")
    @classmethod
    def _are_all(cls, observers: tuple[Observer, ...]) -> tuple[Observer, ...]:
        if set(observers) - {Observer.MASKS_BROKEN} != set(OBSERVERS):
            raise ValueError(
                "the budget always holds against all of server, site, coalition and public; list "
                "these, and masks-broken if it is to be charged too, or remove the line"
            )
        broken = (Observer.MASKS_BROKEN,) if Observer.MASKS_BROKEN in observers else ()
        return (*OBSERVERS, *broken)

    @field_validator("bases", "encoders")
    @classmethod
    def _are_model_digests(cls, models: tuple[str, ...]) -> tuple[str, ...]:
        for model in models:
            if model != ANY and not _is_hex_digest(model.removeprefix("sha256:")):
                raise ValueError(
                    'each entry is a model\'s digest as in study.toml ("sha256:" and 64 hex '
                    'digits), or "any" spelled out'
                )
        return models

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        for name in ("studies", "bases", "encoders"):
            entries = getattr(self, name)
            if ANY in entries and len(entries) > 1:
                raise ValueError(f'{name}: "any" makes the other entries meaningless; keep one')
        if self.study_epsilon > self.epsilon:
            raise ValueError(
                f"study_epsilon {self.study_epsilon:g} is above epsilon {self.epsilon:g}, the "
                "budget of all studies together"
            )
        if (self.across_studies == "rdp-filter") != (self.rdp_order is not None):
            raise ValueError('rdp_order is set exactly where across_studies = "rdp-filter"')
        return self

    def allows_base(self, digest: str) -> bool:
        """Whether the base model of this digest, "sha256:..." as in the study, is admitted."""
        return _admitted(digest, self.bases)

    def allows_encoder(self, digest: str) -> bool:
        """Whether the frozen encoder of this digest may look at the tiles."""
        return _admitted(digest, self.encoders)


def load_site(path: Path) -> SiteSettings:
    """Read `site.toml`; relative paths in it are relative to its folder, the result's absolute.

    Raises `ConfigError`.
    """
    site = load_toml(path, SiteSettings)
    folder = path.absolute().parent
    values = {name: _resolved(getattr(site, name), folder) for name in type(site).model_fields}
    return SiteSettings.model_validate(values)


def load_policy(path: Path) -> Policy:
    """Read `policy.toml`; raises `ConfigError`."""
    return load_toml(path, Policy)


def runtime_folder() -> Path:
    """A short folder path for sockets, which only this user can enter (mode 0700).

    `$XDG_RUNTIME_DIR/craftsfl`, else `<temporary folder>/craftsfl-<uid>`. Raises
    `DeploymentError` if someone else owns it: a socket there could be anyone's.
    """
    folder = _runtime_folder_name()
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        facts = folder.lstat()
    except OSError as error:
        raise DeploymentError(
            f"The runtime folder {folder} cannot be made: {error.strerror}.",
            "Set XDG_RUNTIME_DIR to a folder of yours, or agent.socket in site.toml.",
        ) from None
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        raise DeploymentError(
            f"The runtime folder {folder} is not private to this user.",
            "Remove it, or `chmod 700` it if it is yours.",
        )
    return folder


def _runtime_folder_name() -> Path:
    own = os.environ.get("XDG_RUNTIME_DIR", "")
    if own and Path(own).is_dir() and len(own) <= _LONGEST_FOLDER:
        return Path(own) / "craftsfl"
    temporary = tempfile.gettempdir()
    short = temporary if len(temporary) <= _LONGEST_FOLDER else "/tmp"
    return Path(short) / f"craftsfl-{os.getuid()}"


def _admitted(digest: str, models: tuple[str, ...]) -> bool:
    plain = {model.removeprefix("sha256:") for model in models}
    return ANY in plain or digest.removeprefix("sha256:") in plain


def _is_hex_digest(text: str) -> bool:
    return len(text) == 64 and all(digit in "0123456789abcdef" for digit in text)


def _resolved(value: object, folder: Path) -> object:
    """`value` with every relative path in it made absolute; tables come back as dicts."""
    if isinstance(value, Path):
        return Path(os.path.normpath(folder / from_home(value)))
    if isinstance(value, Strict):
        return {name: _resolved(getattr(value, name), folder) for name in type(value).model_fields}
    return value
