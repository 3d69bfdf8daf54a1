"""The gateway's process: what it imports, what it weighs, what it says of unusable settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from client.gateway.options import first_hop, load_key, parse_options
from client.gateway.pace import Pace
from craftsfl.processes.flower.credentials import make_authority, make_supernode_key
from privacy.errors import ConfigError

HEAVY = ("torch", "diffusers", "pandas", "opacus", "client.agent", "client.training", "client.data")


def gateway(folder: Path, **changed: str) -> subprocess.CompletedProcess[str]:
    options = {
        "--superlink": "localhost:1",
        "--root-certificates": str(folder / "tls" / "ca.pem"),
        "--key": str(folder / "supernode.key"),
        "--socket": str(folder / "agent.sock"),
        "--home": str(folder / "home"),
        **{f"--{name}": value for name, value in changed.items()},
    }
    words = [word for pair in options.items() for word in pair]
    argv = [sys.executable, "-P", "-m", "client.gateway", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_authority(tmp_path / "tls")
    make_supernode_key(tmp_path / "supernode.key")
    return tmp_path


def test_it_imports_nothing_heavy_and_weighs_little() -> None:
    code = (
        "import sys, client.gateway.__main__, client.gateway.courier, client.gateway.fleet;"
        f"print([m for m in {HEAVY} if m in sys.modules]);"
        "print(next(l for l in open('/proc/self/status') if l.startswith('VmHWM')).split()[1])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported, kilobytes = done.stdout.splitlines()
    assert imported == "[]"
    assert int(kilobytes) < 120_000


@pytest.mark.parametrize(
    "changed, words",
    [
        ({"key": "{folder}/nothing"}, "cannot be read: No such file"),
        ({"key": "{folder}/tls/server.key"}, "not a private key of a NIST curve in OpenSSH format"),
        ({"root-certificates": "{folder}/nothing"}, "The authority's certificate"),
        ({"root-certificates": "{folder}/supernode.key"}, "The authority's certificate"),
        ({"home": "{folder}/supernode.key/home"}, "cannot be written"),
    ],
)
def test_unusable_settings_are_told_at_the_desk(
    folder: Path, changed: dict[str, str], words: str
) -> None:
    done = gateway(folder, **{name: text.format(folder=folder) for name, text in changed.items()})
    assert done.returncode == 1, done.stderr
    assert "desk: The gateway cannot start." in done.stdout
    assert words in done.stdout
    assert "[gateway] table of site.toml" in done.stdout or "craftsfl site init" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ed25519

    key = ed25519.Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    (tmp_path / "key").write_bytes(key)
    with pytest.raises(ConfigError, match="not a private key of a NIST curve"):
        load_key(tmp_path / "key")


def test_the_options_are_the_settings_defaults() -> None:
    from client.settings import GatewaySettings

    found = parse_options(["--superlink", "a:1", "--key", "k", "--socket", "s", "--home", "h"])
    own = GatewaySettings(superlink="a:1", key=Path("k"), home=Path("h"))
    assert found.pace == Pace(own.fastest_look, own.slowest_look)
    assert found.largest == own.largest_message << 20


@pytest.mark.parametrize(
    "variables, hop",
    [
        ({}, ("coordinator", 443)),
        ({"HTTPS_PROXY": "http://proxy.north:3128"}, ("proxy.north", 3128)),
        ({"https_proxy": "proxy.north:3128"}, ("proxy.north", 3128)),
        ({"HTTPS_PROXY": "https://proxy.north"}, ("proxy.north", 443)),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "coordinator"}, ("coordinator", 443)),
    ],
)
def test_the_one_port_it_needs_is_the_superlinks_or_the_proxys(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], hop: tuple[str, int]
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert first_hop("coordinator:443") == hop
