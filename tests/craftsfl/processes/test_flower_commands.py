"""The command lines of Flower's processes keep what the architecture promises."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from client.settings import load_site
from craftsfl.processes.agent_command import agent_command
from craftsfl.processes.flower.commands import SuperLink, program
from craftsfl.processes.flower.control import answers, flower_runs, register_node
from craftsfl.processes.flower.credentials import make_authority, make_secret
from craftsfl.processes.flower.supernode import SuperNode
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError
from tests.client.hospital import write_hospital


def link(tmp_path: Path, host: str = "127.0.0.1") -> SuperLink:
    authority = make_authority(tmp_path / "tls")
    return SuperLink(host, 9000, tmp_path / "link", authority, make_secret(tmp_path / "secret"))


def test_a_superlink_is_closed_silent_and_offline(tmp_path: Path) -> None:
    command = link(tmp_path).superlink(tmp_path / "log")
    text = " ".join(command.argv)
    assert "--insecure" not in text
    assert "--enable-supernode-auth" in text
    assert "--isolation process" in text
    assert "--superexec-auth-secret-file" in text
    assert "--disable-runtime-dependency-installation" in text
    assert command.env["FLWR_TELEMETRY_ENABLED"] == "0"
    assert command.env["FLWR_DISABLE_UPDATE_CHECK"] == "1"


def test_no_secret_stands_on_a_command_line_or_in_the_environment(tmp_path: Path) -> None:
    made = link(tmp_path)
    secret = made.secret.read_text()
    for command in (made.superlink(tmp_path / "a"), made.superexec(tmp_path / "b")):
        assert secret not in " ".join(command.argv)
        assert secret not in command.env.values()


def test_a_supernode_knows_the_socket_and_no_data(tmp_path: Path) -> None:
    node = SuperNode(
        name="north",
        superlink="localhost:9000",
        authority=None,
        key=tmp_path / "key",
        agent_socket=tmp_path / "a b.sock",
        home=tmp_path / "home",
        port=9001,
        secret=tmp_path / "secret",
    )
    argv, starter = (command.argv for command in node.commands(tmp_path / "logs"))
    assert argv[argv.index("--node-config") + 1] == f'agent-socket="{tmp_path / "a b.sock"}"'
    assert "--root-certificates" not in argv
    assert "--insecure" not in argv
    secret = str(tmp_path / "secret")
    for each in (argv, starter):  # without it, anybody on this machine could take its tasks
        assert each[each.index("--superexec-auth-secret-file") + 1] == secret
    assert argv[argv.index("--isolation") + 1] == "process"


def test_an_agent_gets_no_home_of_flowers(tmp_path: Path) -> None:
    site = load_site(write_hospital(tmp_path))
    command = agent_command(tmp_path / "site.toml", site, tmp_path / "log", threads=1)
    assert command.env["FLWR_HOME"] == "/nonexistent"
    assert command.env["OMP_NUM_THREADS"] == "1"
    assert command.argv[0] == sys.executable


def test_a_coordinator_in_a_container_is_reached_by_its_certificates_name(tmp_path: Path) -> None:
    made = link(tmp_path, host="0.0.0.0")
    assert made.address == "127.0.0.1:9000"
    assert "0.0.0.0" in made.superlink(tmp_path / "log").argv


def test_a_missing_program_is_named() -> None:
    with pytest.raises(DeploymentError, match="flower-nothing is not installed"):
        program("flower-nothing")


def test_an_unreachable_superlink_is_answered_in_words(tmp_path: Path) -> None:
    made = link(tmp_path)
    assert answers(made) is False
    with pytest.raises(DeploymentError, match=r"127\.0\.0\.1:9000 does not answer") as caught:
        flower_runs(made)
    assert caught.value.id == ErrorId.SUPERLINK_SILENT


@pytest.mark.parametrize("text", ["", "north", "ssh-ed25519 AAAA north", "ecdsa-sha2-nistp384 AAA"])
def test_another_file_than_a_nodes_key_is_not_sent(tmp_path: Path, text: str) -> None:
    (tmp_path / "north.pub").write_text(text)
    with pytest.raises(ConfigError, match="is not a"):
        register_node(link(tmp_path), tmp_path / "north.pub")
    with pytest.raises(ConfigError, match="cannot be read"):
        register_node(link(tmp_path), tmp_path / "none.pub")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o602])
def test_a_secret_that_others_could_read_is_not_used(tmp_path: Path, mode: int) -> None:
    made = link(tmp_path)
    made.secret.chmod(mode)
    with pytest.raises(DeploymentError, match="others can read or change it") as caught:
        answers(made)
    assert caught.value.id == ErrorId.SECRET_UNUSABLE
    assert "chmod 600" in caught.value.hint


def test_a_secret_that_could_be_guessed_is_not_used(tmp_path: Path) -> None:
    made = link(tmp_path)
    made.secret.write_text("geheim")
    with pytest.raises(DeploymentError, match="6 bytes; 32 are needed"):
        answers(made)
    made.secret.unlink()
    with pytest.raises(DeploymentError, match="No such file") as caught:
        answers(made)
    assert "openssl rand" in caught.value.hint
