"""The compose files say what the airlock promises (no engine needed: they are parsed)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from craftsfl.cli import app

ROOT = Path(__file__).parents[1]


def services(name: str) -> dict[str, Any]:
    text = (ROOT / "docker" / name / "compose.yaml").read_text()
    return dict(yaml.safe_load(text)["services"])


def mounts(service: dict[str, Any]) -> set[str]:
    """Where volumes appear inside the container."""
    return {volume.removesuffix(":ro").rsplit(":", 1)[-1] for volume in service["volumes"]}


def test_the_agent_has_no_network_and_the_gateway_no_data() -> None:
    site = services("site")
    assert site["agent"]["network_mode"] == "none"
    assert "network_mode" not in site["gateway"]
    assert mounts(site["agent"]) >= {"/data", "/var/lib/craftsfl", "/etc/craftsfl/policy.toml"}
    assert mounts(site["gateway"]) == {
        "/etc/craftsfl/site.toml",
        "/etc/craftsfl/ca.pem",
        "/etc/craftsfl/supernode.key",
        "/home/gateway",
        "/run/craftsfl",
    }
    assert "/etc/craftsfl/supernode.key" not in mounts(site["agent"])
    assert "/etc/craftsfl/identity" in mounts(site["agent"])  # and, above, not in the gateway
    assert site["agent"]["user"].split(":")[0] != site["gateway"]["user"].split(":")[0]


@pytest.mark.parametrize("name", ["site", "consortium"])
def test_our_containers_can_do_little(name: str) -> None:
    ours = [item for item in services(name).values() if "build" in item]
    assert ours
    for service in ours:
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert service["user"].split(":")[0] != "0"


def test_only_the_proxy_is_public_and_only_the_fleet_api() -> None:
    consortium = services("consortium")
    assert [name for name, service in consortium.items() if "ports" in service] == ["proxy"]
    nginx = (ROOT / "docker/consortium/nginx.conf").read_text()
    assert nginx.count("proxy_pass ") == 1
    assert "location /v1/fleet/ {\n      proxy_pass" in nginx
    assert "location / {\n      return 404;" in nginx


def test_the_sources_in_the_working_folder_are_not_on_the_path() -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    assert "PYTHONSAFEPATH=1" in dockerfile.partition("COPY")[0]


@pytest.mark.parametrize("name", ["site", "consortium"])
def test_the_commands_of_the_containers_exist(name: str) -> None:
    for service in services(name).values():
        if "build" not in service:
            continue
        program, group, command, *_ = service["command"]
        assert program == "craftsfl"
        only = service["command"][-1]
        result = CliRunner().invoke(app, [group, command, "--help"])
        assert result.exit_code == 0
        assert only in result.output
