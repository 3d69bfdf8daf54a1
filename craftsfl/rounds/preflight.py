"""What `craftsfl rounds serve` checks before it starts anything, and what it watches while it runs.

A start that fails halfway helps nobody: each fault is an error with a next step, at the desk of
the operator, before there is a process, a log or a database.
"""

from __future__ import annotations

import datetime
import logging
import os
import shutil
import stat
import time
from pathlib import Path
from typing import Final

from craftsfl.processes.environment import keep_files_private
from craftsfl.processes.flower.certificates import check_certificate, expires_soon
from craftsfl.processes.flower.commands import SuperLink
from craftsfl.processes.flower.operator_key import read_superexec_secret
from craftsfl.processes.flower.superlink_db import prepare_database
from craftsfl.processes.supervisor import claim_port
from craftsfl.terminal import say
from privacy.error_ids import ErrorId
from privacy.errors import DeploymentError
from privacy.study.manifest import load_study
from server.database import open_database
from server.readiness import agreed_roster, check_filled
from server.settings import ConsortiumSettings

SMALLEST_SPACE: Final = 200 * 1024 * 1024  # bytes: a run's first rounds, and SQLite's own files
_PORT_SECONDS: Final = 1.0  # until a socket of somebody who has just ended is gone
_DAY_SECONDS: Final = 86_400.0


def check_coordinator(consortium: ConsortiumSettings, link: SuperLink, *, serves: bool) -> None:
    """Raise `CraftsflError` at the first fault; warn of a certificate that expires soon.

    `serves`: whether the SuperLink itself is to be started here. Nothing may have its database
    open then: call this while the folder is held.
    """
    read_superexec_secret(link.secret)
    _check_study(consortium)
    now = datetime.datetime.now(datetime.UTC)
    check_certificate(link.credentials, [link.address.rpartition(":")[0].strip("[]")], now)
    _check_round_state(consortium)
    if serves:
        _claim_soon(link.host, link.port)
        prepare_database(link.database)
    CertificateWatch(link.credentials.certificate).look()


def make_folders(consortium: ConsortiumSettings, link: SuperLink) -> None:
    """Make the coordinator's folders, its user's alone, or raise `DeploymentError`."""
    for folder in (link.folder, consortium.state):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unusable(
                f"The folder {folder} cannot be made: {error.strerror}.",
                "Make it, as this user, or change consortium.toml.",
            ) from None
        check_folder(folder)
    link.prepare()
    keep_files_private(consortium.state)


def check_folder(folder: Path) -> None:
    """Raise `DeploymentError` unless `folder` is this user's, cannot be replaced, and has room."""
    if folder.stat().st_uid != os.geteuid():
        raise _unusable(
            f"{folder} belongs to another user.", f"Give it to this one: chown -R {os.geteuid()}"
        )
    for above in folder.parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _unusable(
                f"Everybody may change {above}, and so replace {folder} by another folder.",
                f"chmod o-w {above}, or choose another place.",
            )
    free = shutil.disk_usage(folder).free
    if free < SMALLEST_SPACE:
        raise DeploymentError(
            f"{free // 2**20} MB are free on the disk of {folder}; "
            f"{SMALLEST_SPACE // 2**20} MB are the least.",
            "Free some space, or move the folder.",
            id=ErrorId.DISK_FULL,
        )


def _check_study(consortium: ConsortiumSettings) -> None:
    """Study and roster as the ServerApp will read them; raises `ConfigError`, `SecAggError`."""
    study = load_study(consortium.study)
    check_filled(study)
    agreed_roster(consortium, study)


def _check_round_state(consortium: ConsortiumSettings) -> None:
    """That the round state can be opened; raises `ConfigError` or `DeploymentError`."""
    open_database(consortium.database_url()).dispose()


def _claim_soon(host: str, port: int) -> None:
    """Wait for the port for as long as somebody who was ended may take to give it back."""
    deadline = time.monotonic() + _PORT_SECONDS
    while True:
        try:
            claim_port(host, port, "port in the [superlink] table of consortium.toml")
        except DeploymentError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            return


class CertificateWatch:
    """Says once a day that a certificate expires soon, or has."""

    def __init__(self, certificate: Path, *, said: bool = False) -> None:
        """`said`: it was said just now."""
        self._certificate = certificate
        self._next = time.monotonic() + _DAY_SECONDS if said else 0.0

    def look(self) -> None:
        """Look, unless that was done within a day. The file may have been renewed, or be gone."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _DAY_SECONDS
        try:
            words = expires_soon(self._certificate, datetime.datetime.now(datetime.UTC))
        except DeploymentError as error:
            words = str(error)
        if words:
            say(words, logging.WARNING)


def _unusable(message: str, hint: str) -> DeploymentError:
    return DeploymentError(message, hint, id=ErrorId.FOLDER_UNUSABLE)
