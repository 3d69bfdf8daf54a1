"""The compose files say what the airlock promises (no engine needed: they are parsed)."""

from __future__ import annotations

import ipaddress
import tomllib
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
    assert not any("ports" in service for service in site.values())
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


def test_the_gateways_network_leads_to_the_coordinator_alone() -> None:
    compose = yaml.safe_load((ROOT / "docker/site/compose.yaml").read_text())
    settings = tomllib.loads((ROOT / "docker/site/site.toml").read_text())
    host, port = settings["gateway"]["superlink"].split(":")
    gateway, egress = compose["services"]["gateway"], compose["services"]["egress"]
    assert gateway["networks"] == ["inside"]
    assert compose["networks"]["inside"]["internal"] is True
    reached = {name for name, one in compose["services"].items() if "inside" in networks(one)}
    assert reached == {"gateway", "egress"}
    address = egress["networks"]["inside"]["ipv4_address"]
    (subnet,) = compose["networks"]["inside"]["ipam"]["config"]
    assert ipaddress.ip_address(address) in ipaddress.ip_network(subnet["subnet"])
    assert gateway["extra_hosts"] == [f"{host}:{address}"]
    passed = (ROOT / "docker/site/egress.conf").read_text()
    assert f"default {host}:{port};" in passed
    assert f"listen {port};" in passed
    assert passed.count("proxy_pass ") == 1
    assert "http {" not in passed


def networks(service: dict[str, Any]) -> list[str]:
    return list(service.get("networks", ()))


@pytest.mark.parametrize("name", ["gateway", "egress"])
def test_what_faces_the_network_is_small(name: str) -> None:
    service = services("site")[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"].split(":")[0] != "0"
    assert service["mem_limit"] == service["memswap_limit"]
    assert 0 < service["pids_limit"] <= 128
    assert 0 < service["cpus"] <= 1


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
