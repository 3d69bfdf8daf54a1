"""`craftsfl site systemd`: what the two units take away, and that systemd reads them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client.agent.own_ledger import CREDENTIAL, passphrase
from client.settings import load_site
from craftsfl.cli import app
from craftsfl.site.systemd import AGENT_UNIT, GATEWAY_UNIT, ServedSite, units, verified
from privacy.errors import ConfigError

SITE = """
name = "north"
study = "study.toml"
policy = "policy.toml"
[data]
folder = "/srv/tiles of 100 %"
[agent]
state = "/var/lib/craftsfl/state"
user = "root"
socket = "/run/craftsfl/agent.sock"
socket_mode = "0660"
device = "cpu"
[identity]
key = "/var/lib/craftsfl/site.key"
roster = "/var/lib/craftsfl/roster.cfl"
passphrase_file = "/etc/craftsfl/passphrase"
[gateway]
superlink = "coordinator.example:9092"
user = "daemon"
key = "/var/lib/craftsfl-net/supernode.key"
home = "/var/lib/craftsfl-net/gateway"
"""


def written(folder: Path, text: str = SITE) -> dict[str, list[str]]:
    """The lines of each unit."""
    file = folder / "site.toml"
    file.write_text(text)
    made = units(ServedSite(load_site(file), file, Path("/opt/craftsfl/bin/craftsfl")))
    return {name: unit.splitlines() for name, unit in made.items()}


def test_the_agent_has_no_network_and_the_gateway_no_data(tmp_path: Path) -> None:
    made = written(tmp_path)
    agent, gateway = made[AGENT_UNIT], made[GATEWAY_UNIT]
    assert {"User=root", "Group=daemon", "PrivateNetwork=yes", "ProtectSystem=strict"} <= {*agent}
    assert {"RuntimeDirectory=craftsfl", "RuntimeDirectoryMode=2750"} <= {*agent}
    assert f"LoadCredential={CREDENTIAL}:/etc/craftsfl/passphrase" in agent
    assert "PrivateDevices=yes" in agent
    assert 'ReadWritePaths="/var/lib/craftsfl/state" "/var/lib/craftsfl"' in agent
    assert {"User=daemon", "ProtectProc=invisible", "PrivateDevices=yes"} <= {*gateway}
    closed = next(line for line in gateway if line.startswith("InaccessiblePaths="))
    for path in ("/srv/tiles of 100 %%", "/var/lib/craftsfl/state", "/var/lib/craftsfl/site.key",
                 "/etc/craftsfl/passphrase", "/var/lib/craftsfl/site.key.ledger"):  # fmt: skip
        assert f'"-{path}"' in closed
    assert str(tmp_path / "policy.toml") in closed
    assert str(tmp_path / "site.toml") not in closed
    assert "PrivateNetwork=yes" not in gateway
    for unit, part in ((agent, "agent"), (gateway, "gateway")):
        start = next(line for line in unit if line.startswith("ExecStart="))
        assert start.endswith(f"--only {part}")


def test_what_lies_in_a_home_folder_can_be_reached(tmp_path: Path) -> None:
    at_home = SITE.replace("/srv/", "/home/craftsfl/")
    assert "ProtectHome=read-only" in written(tmp_path, at_home)[AGENT_UNIT]
    gpu = SITE.replace('device = "cpu"\n', "")
    assert "PrivateDevices=yes" not in written(tmp_path, gpu)[AGENT_UNIT]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('user = "daemon"\n', "", "two users"),
        ('user = "root"\n', "", "two users"),
        ('socket_mode = "0660"', 'socket_mode = "0600"', "keeps the gateway's user out"),
        ('socket = "/run/craftsfl/agent.sock"\n', "", "no socket"),
        ("tiles of", "tiles\\nof", "control character"),
    ],
)
def test_a_site_of_one_user_gets_no_units(tmp_path: Path, old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        written(tmp_path, SITE.replace(old, new))


def test_the_units_are_written_and_the_next_step_said(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE)
    done = CliRunner().invoke(
        app, ["site", "systemd", str(tmp_path / "site.toml"), "-o", str(tmp_path / "units")]
    )
    assert done.exit_code == 0, done.output
    assert "systemctl enable --now craftsfl-agent.service" in done.output
    assert {file.name for file in (tmp_path / "units").iterdir()} == {AGENT_UNIT, GATEWAY_UNIT}


def test_units_that_somebody_has_edited_are_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE)
    command = ["site", "systemd", str(tmp_path / "site.toml"), "-o", str(tmp_path / "units")]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert CliRunner().invoke(app, command).exit_code == 0  # the same again
    unit = tmp_path / "units" / AGENT_UNIT
    unit.write_text(edited := unit.read_text() + "# ours\n")
    refused = CliRunner().invoke(app, command)
    assert refused.exit_code != 0
    assert "is another one" in str(refused.exception)
    assert unit.read_text() == edited


def test_a_socket_folder_of_two_words_is_one_folder(tmp_path: Path) -> None:
    made = written(tmp_path, SITE.replace("/run/craftsfl/", "/run/two words/"))
    assert not any(line.startswith("RuntimeDirectory=") for line in made[AGENT_UNIT])
    assert any('"/run/two words"' in line for line in made[AGENT_UNIT])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
def test_systemd_reads_the_units_and_finds_them_closed(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SITE)
    settings = load_site(tmp_path / "site.toml")
    program = Path(shutil.which("true") or "/bin/true")
    for name, text in units(ServedSite(settings, tmp_path / "site.toml", program)).items():
        (tmp_path / name).write_text(text)
        assert "nothing wrong" in verified([tmp_path / name])
        argv = ["systemd-analyze", "security", "--offline=true", "--json=short", tmp_path / name]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode != 0 and "offline" in done.stderr:
            pytest.skip("this systemd-analyze knows no --offline")
        rated = {row["json_field"]: row for row in json.loads(done.stdout)}
        for field in ("NoNewPrivileges", "ProtectSystem", "PrivateTmp", "PrivateDevices"):
            assert rated[field]["set"], (name, field, rated[field])
    (tmp_path / "broken.service").write_text("[Service]\nExecStart=relative\n")
    assert "broken.service" in verified([tmp_path / "broken.service"])


def test_the_passphrase_comes_from_the_credential_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, folder = tmp_path / "passphrase", tmp_path / "credentials"
    file.write_text("from the file\n")
    file.chmod(0o600)
    folder.mkdir()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    assert passphrase(file) == b"from the file"
    (folder / CREDENTIAL).write_text("from systemd\n")
    (folder / CREDENTIAL).chmod(0o440)
    assert passphrase(file) == b"from systemd"
    assert passphrase(tmp_path / "root's alone") == b"from systemd"
    (folder / CREDENTIAL).chmod(0o666)
    with pytest.raises(ConfigError, match="credential"):
        passphrase(file)
    assert passphrase(None) is None
