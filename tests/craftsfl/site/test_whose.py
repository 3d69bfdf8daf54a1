"""Two users: whose each file is after `site init`, and what is refused before anything starts."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client.agent.own_ledger import passphrase
from client.settings import SiteSettings, load_site
from craftsfl.processes.accounts import SystemAccount, find_account
from craftsfl.site.airlock import reachable, two_users
from craftsfl.site.check.finding import CheckId, Fact, Finding
from craftsfl.site.check.machine import check_airlock, check_socket
from craftsfl.site.joining.own_files import SiteDraft, make_site
from craftsfl.site.site_file import as_agents_user
from craftsfl.site.whose import gateway_lacks, lets
from privacy.errors import ConfigError, DeploymentError
from privacy.files import write_public
from scripts.other_users import visible
from tests.craftsfl.site.two_users import AGENT, NODE
from tests.users import attempt, needs_users, open_folder


@contextmanager
def made(umask: int = 0o022) -> Iterator[SiteSettings]:
    """A new hospital of two users, as root's `site init` makes it with that umask."""
    with open_folder() as folder:
        before = os.umask(umask)
        try:
            make_site(SiteDraft(folder / "north", "north", users=(AGENT, NODE)))
        finally:
            os.umask(before)
        site = load_site(folder / "north" / "site.toml")
        agent = site.agent.model_copy(update={"socket": folder / "run" / "agent.sock"})
        yield site.model_copy(update={"agent": agent})


def whose(path: Path) -> tuple[str, int]:
    facts = path.stat()
    names = {find_account(name).uid: name for name in (AGENT, NODE)}
    return names.get(facts.st_uid, "root"), stat.S_IMODE(facts.st_mode)


@needs_users
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_every_file_of_a_new_hospital_is_its_users(umask: int) -> None:
    with made(umask) as site:
        folder = site.policy.parent
        assert {path.name: whose(path) for path in folder.iterdir()} == {
            "site.toml": (AGENT, 0o644),
            "north.card": (AGENT, 0o644),
            "site.key": (AGENT, 0o600),
            "site.key.ledger": (AGENT, 0o600),
            "state": (AGENT, 0o700),
            "tiles": (AGENT, 0o700),
            "supernode.key": (NODE, 0o600),
            "supernode.pub": (NODE, 0o644),
            "gateway": (NODE, 0o700),
        }
        assert whose(folder) == (AGENT, 0o2750)
        assert folder.stat().st_gid == find_account(NODE).gid
        users = two_users(site)
        assert (users.agent.name, users.gateway.name) == (AGENT, NODE)
        node = find_account(NODE).uid
        assert attempt(node, lambda: reachable(site)) == []
        assert attempt(node, lambda: site.gateway and gateway_lacks(site.gateway)) == []
        assert attempt(node, lambda: load_site(folder / "site.toml").name) == "north"
        assert isinstance(attempt(61001, lambda: load_site(folder / "site.toml")), ConfigError)


@needs_users
def test_a_file_with_a_second_name_is_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_folder() as folder:
        (folder / "north").mkdir()
        precious = folder / "precious"

        def and_link(path: Path, data: bytes) -> None:
            write_public(path, data)
            path.rename(precious)
            os.link(precious, path)

        monkeypatch.setattr("craftsfl.site.joining.own_files.write_public", and_link)
        with pytest.raises(DeploymentError, match="second name"):
            make_site(SiteDraft(folder / "north", "north", users=(AGENT, NODE)))
        assert whose(precious)[0] == "root"


@needs_users
@pytest.mark.parametrize(
    ("change", "names"),
    [
        (lambda site: site.policy.parent.chmod(0o700), ["supernode.key", "ca.pem", "gateway"]),
        (lambda site: os.chown(site.gateway.key, 0, 0), ["supernode.key"]),
        (lambda site: os.chown(site.gateway.home, 0, 0), ["gateway"]),
    ],
)
def test_what_the_gateway_needs_and_cannot_reach_is_named_before_it_starts(
    change: object, names: list[str]
) -> None:
    with made() as site:
        assert callable(change)
        change(site)
        with pytest.raises(DeploymentError, match="cannot reach what it needs") as caught:
            two_users(site)
        lacks = [str(site.policy.parent / name) for name in names]
        assert caught.value.message.endswith(f"needs: {', '.join(lacks)}.")
        assert f"chown -R {NODE}" in caught.value.hint
        found = attempt(find_account(AGENT).uid, lambda: list(check_airlock(site)))
        assert [item.id for item in found] == [CheckId.AIRLOCK]  # modes say the same to the agent


@needs_users
def test_the_agents_own_check_reads_it_off_the_modes() -> None:
    with made() as site:
        agent = find_account(AGENT).uid
        sound = attempt(agent, lambda: [*check_airlock(site), *check_socket(site)])
        assert all(isinstance(item, Fact) for item in sound), sound  # the folder comes with serve
        site.data.folder.chmod(0o755)
        wide = attempt(agent, lambda: list(check_airlock(site)))
        assert isinstance(wide[0], Finding) and str(site.data.folder) in wide[0].words
        site.policy.parent.chmod(0o700)  # nobody gets as far as the wide folder: not named
        shut = attempt(agent, lambda: list(check_airlock(site)))
        assert str(site.data.folder) not in shut[0].words


def test_modes_are_read_as_the_system_reads_them(tmp_path: Path) -> None:
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    owner, stranger = os.getuid(), SystemAccount("nosuchuser", 61001, 61001, "/")
    own = SystemAccount("nosuchuser", owner, 61001, "/")
    member = SystemAccount("nosuchuser", 61002, inside.stat().st_gid, "/")
    for path in (*tmp_path.parents, tmp_path, inside.parent):
        if path.stat().st_uid == owner and path.is_relative_to("/tmp/"):
            path.chmod(path.stat().st_mode | 0o011)
    inside.chmod(0o740)
    assert lets(Path("/"), stranger, os.R_OK)
    for account, rights, held in [
        (own, os.R_OK | os.W_OK | os.X_OK, True),
        (member, os.R_OK, True),
        (member, os.X_OK, False),
        (stranger, os.R_OK, False),
    ]:
        assert _within(inside, account, rights) is held
    assert not lets(inside / "nothing", own, os.R_OK)


def _within(path: Path, account: SystemAccount, rights: int) -> bool:
    """`lets`, where whoever runs the tests may have folders above that are closed to others."""
    closed = any(not lets(above, account, os.X_OK) for above in path.parents)
    if closed:
        pytest.skip("the temporary folder is closed to other users")
    return lets(path, account, rights)


@needs_users
def test_a_socket_folder_of_the_wrong_owner_is_refused_before_anything_starts() -> None:
    with made() as site:
        two_users(site)
        folder = site.agent.socket.parent if site.agent.socket else Path()
        for owner, mode in ((0, 0o755), (find_account(AGENT).uid, 0o700)):
            os.chown(folder, owner, 0)
            folder.chmod(mode)
            with pytest.raises(DeploymentError, match="where agent and gateway meet") as caught:
                two_users(site)
            assert f"chown {AGENT}:{NODE} {folder}" in caught.value.hint


@needs_users
def test_what_root_types_is_done_as_the_agents_user() -> None:
    with made() as site:
        file = site.policy.parent / "site.toml"
        assert attempt(0, lambda: (as_agents_user(file), os.geteuid())) == (
            file,
            find_account(AGENT).uid,
        )
        os.chown(site.policy.parent, 0, 0)
        refused = attempt(0, lambda: as_agents_user(file))
        assert isinstance(refused, ConfigError) and f"run as {AGENT}" in refused.message


@needs_users
def test_a_passphrase_that_is_roots_alone_is_read_before_root_becomes_another() -> None:
    with made() as site:
        file, secret = site.policy.parent / "site.toml", site.policy.parent.parent / "passphrase"
        secret.write_text("correct horse\n")
        secret.chmod(0o600)
        key = 'roster = "roster.cfl"'
        file.write_text(file.read_text().replace(key, f'{key}\npassphrase_file = "{secret}"'))
        refused = attempt(find_account(AGENT).uid, lambda: passphrase(secret))
        assert isinstance(refused, ConfigError)
        assert attempt(0, lambda: (as_agents_user(file), passphrase(secret)))[1] == b"correct horse"


@needs_users
def test_a_log_that_a_user_may_not_write_is_told_in_words() -> None:
    with open_folder() as folder:
        log = folder / "gateway" / "logs" / "gateway.log"
        argv = [
            sys.executable,
            "-P",
            "-m",
            "craftsfl.processes.as_user",
            NODE,
            str(log),
            "/bin/true",
        ]
        done = subprocess.run(visible(argv), capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith(f"{NODE} cannot write its log {log}: Permission denied.")
