"""`craftsfl rounds plan` as an operator types it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import typer
from typer.testing import CliRunner

from client.policy import SiteRules, limits_of
from client.settings import load_policy
from craftsfl.cli import app
from craftsfl.planning.base_layers import parameters_of
from model.adapters import layout_of
from model.cache import locate_base
from privacy.budget import Book, cannot_end
from privacy.errors import ConfigError, ModelError
from privacy.study.manifest import Adapter, load_study
from strategies.pooled import rule_of

ROOT = Path(__file__).parents[3]
THREE = ("--sites", 3, "--patients", 160)


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["rounds", "plan", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def values(*arguments: object) -> dict[str, object]:
    found: dict[str, object] = json.loads(run(*arguments, "--json"))
    return found


def test_a_plan_is_shown() -> None:
    shown = run(*THREE)
    for word in ("3 sites, 480 patients", "together", "largest site alone", "each its own noise"):
        assert word in shown
    assert "Alone, the largest site would learn" in shown
    assert "patients' gradients are longer" in shown and "rehearsals" in shown


def test_sites_may_be_named() -> None:
    found = values("--site", "north=800", "--site", "harbour=500", "--site", "hillside=650")
    assert found["sites"] == {"north": 800, "harbour": 500, "hillside": 650}
    assert found["patients"] == 1950


@pytest.mark.parametrize(
    ("targets", "rank", "frozen"),
    [
        (("attn1.to_v", "attn1.to_out.0"), 1, True),
        (("to_q", "conv1", "conv_in"), 4, True),
        (("to_q", "conv1"), 2, False),
    ],
)
def test_numbers_are_counted_as_the_model_counts_them(
    targets: tuple[str, ...], rank: int, frozen: bool
) -> None:
    base = locate_base("tiny")
    adapter = Adapter(targets=targets, rank=rank, alpha=1.0, frozen_a=frozen)
    assert parameters_of(base, adapter) == layout_of(base, adapter).parameters


def test_the_written_study_is_one_that_its_policy_admits_to_its_end(tmp_path: Path) -> None:
    shown = run(*THREE, "--write", tmp_path / "study.toml", "--name", "colon-2027")
    study = load_study(tmp_path / "study.toml")
    assert study.name == "colon-2027" and study.rounds == 40 and study.pools_noise
    assert rule_of(study).kind == "adam"
    lines = shown[shown.index("study_epsilon") :]
    whole = f'epsilon = 8.0\ndelta = 1e-5\nroster = "{"0" * 64}"\n{lines}'
    (tmp_path / "policy.toml").write_text(whole)
    policy = load_policy(tmp_path / "policy.toml")
    for site in study.sites:
        rules = SiteRules(site.name, study, policy)
        rules.check()
        rules.check_budget()
        allowance = Book().allowance(limits_of(policy), rules.charges.charge)
        assert cannot_end(rules.charges, allowance) is None


def test_the_written_study_has_every_bound(tmp_path: Path) -> None:
    """Every key that a pooled study may have, but those whose absence means something."""
    run(*THREE, "--write", tmp_path / "study.toml")
    study = load_study(tmp_path / "study.toml")
    for table in (study.pooled, study.chosen, study.adapter, study.cohort, study.privacy):
        assert table is not None
        assert set(type(table).model_fields) - table.model_fields_set <= {"attempts"}


def test_a_study_file_is_never_replaced(tmp_path: Path) -> None:
    run(*THREE, "--write", tmp_path / "study.toml")
    with pytest.raises(ConfigError, match="exists already"):
        run(*THREE, "--write", tmp_path / "study.toml")


def test_the_picture_is_a_document_with_a_title(tmp_path: Path) -> None:
    run(*THREE, "--svg", tmp_path / "plan.svg")
    text = (tmp_path / "plan.svg").read_text()
    root = ElementTree.fromstring(text)
    title = root.find("{http://www.w3.org/2000/svg}title")
    assert title is not None and title.text is not None and title.text.startswith("Together ")
    assert len(root.findall("{http://www.w3.org/2000/svg}polyline")) == 3
    assert "prefers-color-scheme:dark" in text and "http://" not in text.replace(
        "http://www.w3.org/2000/svg", ""
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Who takes part"),
        (("--sites", 3), "Give both"),
        (("--patients", 160), "Give both"),
        (("--sites", 3, "--patients", 0), "10 to 10000000"),
        (("--sites", 1_000_000, "--patients", 100), "10000 sites at most"),
        ((*THREE, "--studies", 10**9), "Plan fewer"),
        ((*THREE, "--spare-attempts", 1000), "of 40 steps, 0 to 40"),
        ((*THREE, "--write", "/nowhere/study.toml", "--name", "Bad Name"), "--name Bad Name"),
        (("--site", "north"), "site north"),
        (("--site", "north=12.5"), "site north"),
        (("--site", "north=100", "--sites", 3), "Who takes part"),
        (("--site", "Nörd=100"), "name"),
        (("--sites", 1, "--patients", 500), "1 site: a sum"),
        ((*THREE, "--epsilon", 0), "nothing is learnt"),
        ((*THREE, "--colluders", 2), "hides nobody"),
        ((*THREE, "--layout", "all"), "No adapter called 'all'"),
        ((*THREE, "--layout", "attentions", "--target", "to_q"), "both name layers"),
        ((*THREE, "--clipping-norm", 0), "above 0"),
        ((*THREE, "--base", "runwayml/some-base"), "is not a folder here"),
        ((*THREE, "--svg", "plan.pdf"), "no SVG"),
        ((*THREE, "--svg", "/nowhere/plan.svg"), "cannot be written"),
        ((*THREE, "--write", "/nowhere/study.toml"), "cannot be written"),
        ((*THREE, "--rank", 4), "a rank of their own"),
        (
            (*THREE, "--name", "Mein Plan", "--write", "/nowhere/study.toml"),
            "--name Mein Plan: a study",
        ),
    ],
)
def test_bad_options_are_refused_in_words(arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run(*arguments)


def test_a_layer_that_the_base_lacks_is_named_with_some_that_it_has() -> None:
    with pytest.raises(ModelError, match=r"no layer 'attn3\.to_q'") as caught:
        run(*THREE, "--target", "attn3.to_q")
    assert "to_q" in caught.value.hint


def test_an_adapter_that_was_never_rehearsed_is_called_a_guess() -> None:
    assert "That is a guess" in run(*THREE, "--target", "to_q", "--rank", 2)


def typed(page: str) -> list[str]:
    """The lines of a page that plan something, without comments."""
    text = (ROOT / "docs" / page).read_text()
    lines = re.findall(r"^craftsfl rounds plan (.*)$", text, flags=re.MULTILINE)
    return [line.partition("  #")[0].strip() for line in lines]


@pytest.mark.parametrize("page", ["planning.md", "operator.md"])
def test_what_the_pages_say_can_be_typed(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    lines = [line for line in typed(page) if "--rehearse" not in line]  # it has a test of its own
    assert lines
    for line in lines:
        (tmp_path / "study.toml").unlink(missing_ok=True)
        assert "together" in run(*shlex.split(line))


def test_the_page_explains_every_option() -> None:
    text = (ROOT / "docs/planning.md").read_text()
    command = typer.main.get_command(app)
    plan = command.commands["rounds"].commands["plan"]  # type: ignore[attr-defined]
    options = {name for option in plan.params for name in option.opts if name.startswith("--")}
    assert {name for name in options if name not in text} == set()


def test_it_works_where_neither_torch_nor_flower_is_installed(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        gone = {'torch', 'flwr', 'diffusers', 'peft', 'matplotlib', 'PIL', 'opacus'}\n"
        "        if name.partition('.')[0] in gone:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from craftsfl.__main__ import main\n"
        f"sys.argv = ['craftsfl', 'rounds', 'plan', '--sites', '3', '--patients', '160',\n"
        f"            '--svg', {str(tmp_path / 'plan.svg')!r},\n"
        f"            '--write', {str(tmp_path / 'study.toml')!r}]\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "together" in done.stdout and (tmp_path / "study.toml").exists()
