from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.settings import load_policy, load_site, runtime_folder
from privacy.errors import ConfigError, DeploymentError
from privacy.study.manifest import load_study

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
SITE = """
name = "north"
study = "study.toml"
policy = "/etc/craftsfl/policy.toml"
[data]
folder = "../tiles"
[agent]
state = "state"
"""
POLICY = """
epsilon = 4.0
delta = 1e-5
study_epsilon = 4.0
studies = ["any"]
bases = ["any"]
mechanisms = ["local"]
roster = "{roster}"
""".replace("{roster}", "ab" * 32)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder with a short path, as a runtime folder has; pytest's own may be long."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="rt-") as folder:
        yield Path(folder)


def written(folder: Path, text: str) -> Path:
    path = folder / "settings.toml"
    path.write_text(text)
    return path


def test_the_sample_files_are_valid() -> None:
    site = load_site(EXAMPLES / "site.toml")
    policy = load_policy(EXAMPLES / "policy.toml")
    assert site.name == "north"
    assert site.data.folder == EXAMPLES / "tiles"
    assert site.gateway is not None
    assert site.gateway.key == EXAMPLES / "supernode.key"
    assert policy.secure_aggregation == "required"
    assert site.identity is not None
    assert site.identity.key == EXAMPLES / "site.key"
    assert not policy.allow_no_privacy


def test_the_older_name_of_the_gateways_table_is_told_what_to_write(tmp_path: Path) -> None:
    old = (EXAMPLES / "site.toml").read_text().replace("[gateway]", "[supernode]")
    with pytest.raises(ConfigError) as caught:
        load_site(written(tmp_path, old.replace("home =", "flwr_home =")))
    assert "[supernode] is called [gateway] now, and its flwr_home is called home" in str(
        caught.value
    )
    assert 'kind = "supernode"' in str(caught.value)


def test_the_bounds_of_a_gateway_are_bounds(tmp_path: Path) -> None:
    text = (EXAMPLES / "site.toml").read_text()
    with pytest.raises(ConfigError, match="fastest_look 5 is above slowest_look 3"):
        load_site(written(tmp_path, text.replace("[gateway]", "[gateway]\nfastest_look = 5.0")))


def test_commented_defaults_of_the_sample_policy_are_the_real_ones() -> None:
    policy = load_policy(EXAMPLES / "policy.toml")
    lines = (EXAMPLES / "policy.toml").read_text().splitlines()
    shown = dict(
        line.removeprefix("# ").split("#")[0].split(" = ", 1)
        for line in lines
        if line.startswith(("# max_", "# min_"))
    )
    assert len(shown) == 21
    rounds = load_study(EXAMPLES / "study.toml").rounds
    assert policy.max_lost_attempts is None
    assert int(shown.pop("max_lost_attempts")) == 2 * rounds
    assert all(float(value) == getattr(policy, name) for name, value in shown.items())
    assert ("# allow_partial = false" in lines, policy.allow_partial) == (True, False)


def test_relative_paths_start_at_the_files_folder(tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    site = load_site(written(tmp_path / "site", SITE))
    assert site.study == tmp_path / "site" / "study.toml"
    assert site.policy == Path("/etc/craftsfl/policy.toml")
    assert site.data.folder == tmp_path / "tiles"
    assert site.agent.state == tmp_path / "site" / "state"


def test_unknown_key_names_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, SITE.replace("state =", "sate ="))
    with pytest.raises(ConfigError, match=r"unknown key agent.sate \(did you mean state\?\)"):
        load_site(path)


@pytest.mark.parametrize(
    "key", ["epsilon", "delta", "study_epsilon", "studies", "bases", "mechanisms"]
)
def test_budget_and_studies_have_no_default(tmp_path: Path, key: str) -> None:
    text = "".join(line + "\n" for line in POLICY.splitlines() if not line.startswith(f"{key} "))
    with pytest.raises(ConfigError, match=f": {key} is missing"):
        load_policy(written(tmp_path, text))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("max_step_per_round = 5", "did you mean max_steps_per_round"),
        ("min_noise_multiplier = 0.0", "min_noise_multiplier"),
        ("epsilon = -1.0", "epsilon"),
        ("epsilon = inf", "epsilon"),
        ("delta = 0.5", "delta"),
        ('studies = ["abc"]', "64 hex digits"),
        ('studies = ["any", "any"]', "keep one"),
        ("studies = []", "studies"),
        ('mechanisms = ["remote"]', "mechanisms"),
        ("mechanisms = []", "mechanisms"),
        ('bases = ["sha256:abc"]', "64 hex"),
        ('bases = ["any", "any"]', "keep one"),
        ('observers = ["everybody"]', "observers"),
        ("observers = []", "always holds against all of server, site, coalition and public"),
        ('observers = ["server"]', "remove the line"),
        ('observers = ["site", "coalition", "public"]', "remove the line"),
        ("study_epsilon = 4.5", "above epsilon 4"),
        ('across_studies = "pld"', "across_studies"),
        ('across_studies = "rdp-filter"', "rdp_order is set exactly where"),
        ("rdp_order = 8", "rdp_order is set exactly where"),
        ('secure_aggregation = "maybe"', "secure_aggregation"),
        ('secure_aggregation = "off"', "secure_aggregation"),
        ('secure_aggregation = "plain"', '"plain" is no longer a mode.*remove the line'),
        ('roster = "abc"', "roster"),
        ("max_colluders = -1", "max_colluders"),
        ("min_cohort = 2", "min_cohort"),
    ],
)
def test_wrong_policies_are_refused(tmp_path: Path, line: str, message: str) -> None:
    key = line.split(" ")[0]
    kept = [other for other in POLICY.splitlines() if not other.startswith(f"{key} ")]
    with pytest.raises(ConfigError, match=message):
        load_policy(written(tmp_path, "\n".join([*kept, line])))


def test_a_policy_without_a_roster_is_refused(tmp_path: Path) -> None:
    text = "\n".join(line for line in POLICY.splitlines() if not line.startswith("roster"))
    with pytest.raises(ConfigError, match="roster is missing"):
        load_policy(written(tmp_path, text))


def test_a_policy_requires_secure_aggregation_unless_told_otherwise(tmp_path: Path) -> None:
    assert load_policy(written(tmp_path, POLICY)).secure_aggregation == "required"


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x"])
def test_unknown_devices_are_refused(tmp_path: Path, device: str) -> None:
    with pytest.raises(ConfigError, match=r"agent\.device"):
        load_site(written(tmp_path, SITE + f'device = "{device}"\n'))


def test_runtime_folder_is_private_and_short(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    folder = runtime_folder()
    assert folder.stat().st_mode & 0o777 == 0o700
    deep = short / ("d" * 90)
    deep.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(deep))
    assert not runtime_folder().is_relative_to(deep)


def test_runtime_folder_of_somebody_else_is_refused(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    (short / "craftsfl").mkdir(mode=0o700)
    (short / "craftsfl").chmod(0o755)
    with pytest.raises(DeploymentError, match="not private"):
        runtime_folder()


def test_socket_defaults_to_the_runtime_folder(
    short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short))
    assert load_site(written(short, SITE)).socket_path() == short / "craftsfl" / "north.sock"
    own = load_site(written(short, SITE + 'socket = "a.sock"\n'))
    assert own.socket_path() == short / "a.sock"
