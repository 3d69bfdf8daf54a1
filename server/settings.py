"""The operator's file, `consortium.toml`: study, state and SuperLink."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from privacy.config import Count, Positive, SiteName, Strict, VariableName, load_toml
from privacy.home import from_home


class TrackingSettings(Strict):
    """`[tracking]`: MLflow, a view of the rounds for people, never evidence."""

    uri: str | None = None  # any MLflow tracking URI; None: SQLite in the state folder
    artifacts: Path | None = None  # None: `artifacts` in `state`; a tracking server has its own


class QualitySettings(Strict):
    """`[quality]`: a public figure every k rounds, on tiles that no site trains on.

    `public` states that no tile belongs to a patient who could object: figures are published.
    """

    folders: tuple[Path, ...] = Field(min_length=1)  # imagefolders, as hospitals have them
    public: Literal[True]
    every: Count = 5  # rounds
    tiles: Count = 200  # at most, from all patients in turn
    judge: str | None = None  # an image-text encoder: also measure alignment; None: do not
    images: Count = 32  # at most, drawn for each figure of alignment
    pictures: bool = False  # draw the study's prompts too, once each: state/pictures


class SuperLinkSettings(Strict):
    """`[superlink]`: the coordinator's Flower process, and how `craftsfl rounds` reaches it."""

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)]
    folder: Path  # the SuperLink's database and Flower's home
    authority: Path  # PEM files: who signed the certificate, the certificate, its key
    certificate: Path
    key: Path
    secret: Path  # with which the SuperExec authenticates
    environment: tuple[VariableName, ...] = ()  # more variables that its processes inherit


class InvitationSettings(Strict):
    """`[invitation]`: what hospitals are told when they are invited (`craftsfl rounds add`)."""

    consortium: SiteName  # its name in the roster
    superlink: Annotated[str, Field(pattern=r"^[^\s:/]+:\d{1,5}$")]  # host:port, as they reach it
    cards: Path  # the hospitals' cards
    file: Path  # the invitation that they are sent


class ConsortiumSettings(Strict):
    """All of `consortium.toml`; everything that the server writes is under `state`."""

    study: Path
    state: Path
    database: str | None = None  # SQLAlchemy URL of the round state; None: SQLite in `state`
    join_deadline: Positive = 180.0  # seconds to wait for all sites before starting without some
    roster: Path | None = None  # the consortium's signed rosters, for secure aggregation
    coordinator_key: Path | None = None  # that signs the steps of a pooled study
    device: Annotated[str, Field(pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")] = "auto"
    tracking: TrackingSettings = TrackingSettings()
    quality: QualitySettings | None = None
    superlink: SuperLinkSettings | None = None
    invitation: InvitationSettings | None = None  # craftsfl rounds init writes it

    def database_url(self) -> str:
        """The SQLAlchemy URL of the round state."""
        return self.database or f"sqlite:///{self.state / 'rounds.db'}"

    def mlflow_uri(self) -> str:
        """The URI that MLflow tracks to."""
        return self.tracking.uri or f"sqlite:///{self.state / 'mlflow.db'}"

    def artifacts_folder(self) -> Path:
        """Where artifacts are kept, unless a tracking server keeps them."""
        return self.tracking.artifacts or self.state / "artifacts"

    def quality_log(self) -> Path:
        """What the process that measures public quality has to say."""
        return self.state / "quality.log"

    def quality_cache(self) -> Path:
        """Where encoded public tiles are kept."""
        return self.state / "quality"

    def pictures_folder(self) -> Path:
        """What the study's prompts look like after some of the rounds."""
        return self.state / "pictures"

    def adapters_folder(self) -> Path:
        """Where adapters are kept: one per round, and the final one."""
        return self.state / "adapters"

    def layouts_folder(self) -> Path:
        """What adapters' numbers mean, as worked out before; may be deleted at any time."""
        return self.state / "layouts"

    def samples_file(self) -> Path:
        """The picture of samples from before and after training."""
        return self.state / "samples.png"

    def events_file(self) -> Path:
        """The events, one JSON object per line; public facts only."""
        return self.state / "events.jsonl"

    def log_file(self) -> Path:
        """The ServerApp's own log; its output exists otherwise only in the SuperLink's database."""
        return self.state / "server.log"

    def transparency_file(self) -> Path:
        """The consortium's log, which every site witnesses."""
        return self.state / "transparency.db"

    def promotions_file(self) -> Path:
        """Which versions were promoted, in order, until and after the log has it."""
        return self.state / "promotions.json"

    def lock_file(self) -> Path:
        """What the ServerApp holds locked for as long as it lives."""
        return self.state / "serverapp.lock"

    def keeper_file(self) -> Path:
        """What `craftsfl rounds serve` holds locked while it starts ServerApps again."""
        return self.state / "keeper.lock"

    def result_file(self) -> Path:
        """The outcome of a finished run."""
        return self.state / "result.json"


def load_consortium(path: Path) -> ConsortiumSettings:
    """Read `consortium.toml`; paths in it are relative to its folder.

    Raises `ConfigError`.
    """
    settings = load_toml(path, ConsortiumSettings)
    return ConsortiumSettings.model_validate(_resolved(settings, path.absolute().parent))


def _resolved(value: object, folder: Path) -> object:
    """`value` with all paths made absolute; tables become dicts."""
    if isinstance(value, Path):
        return Path(os.path.normpath(folder / from_home(value)))
    if isinstance(value, tuple):
        return tuple(_resolved(item, folder) for item in value)
    if isinstance(value, Strict):
        return {name: _resolved(getattr(value, name), folder) for name in type(value).model_fields}
    return value
