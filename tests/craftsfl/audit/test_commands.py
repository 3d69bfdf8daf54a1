"""The auditor's commands, as a person runs them."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench.audit.made import made_auditor
from craftsfl.audit.commands import app
from craftsfl.audit.report.figures import site_curves
from craftsfl.audit.show import WHOSE
from craftsfl.audit.signing import make_auditor_key
from craftsfl.audit.sources import sample_bytes
from craftsfl.audit.tampering.draft import Draft
from craftsfl.audit.verdict import verify_bundle
from privacy.audit.evidence import STUDY_FILE, read_evidence
from privacy.audit.signoff import SignedVerdict
from privacy.errors import AuditError, ConfigError, CraftsflError
from tests.craftsfl.audit.made import bundle, promoted, promoted_bundle

# What an auditor's machine does not have.
BLOCKED = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "flwr", "sqlalchemy", "mlflow", "opacus", "diffusers",
                                  "server", "client", "google", "grpc", "safetensors", "pandas"}:
            raise ModuleNotFoundError(name, name=name)
sys.meta_path.insert(0, Block())
import socket
def refused(*_):
    raise OSError("no network")
socket.socket.connect = refused
from craftsfl.audit.program import main
main()
"""

# The registry's template: opendp/deployments-registry-data, commit 057e5d81.
REGISTRY_FIELDS = {
    "basic": [
        *("name", "data_curators", "description", "intended_use", "data_product_type"),
        *("data_product_region", "data_product_sector", "publication_date"),
    ],
    "dp_variant": ["variant_name", "data_domain", "unprotected_quantities"],
    "privacy_loss": [
        *("privacy_unit", "privacy_unit_details", "number_of_privacy_units"),
        *("privacy_parameters", "privacy_parameters_details"),
    ],
    "deployment_model": [
        *("model_name", "model_name_details", "trust_assumptions", "actors", "release_type"),
        *("release_type_details", "data_source_type", "data_source_type_details"),
        *("access_type", "access_type_details"),
    ],
    "implementation": [
        *("preprocessing_and_hyperparameter_tuning", "mechanisms", "composition"),
        *("post_processing", "justification", "utility", "additional_information"),
    ],
    "administrative": ["evidence_sources", "status", "registry_authors", "tier"],
}


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_the_sample_holds_and_its_log_and_all_sums_with_it() -> None:
    verdict = verify_bundle(sample_bytes())
    assert verdict.passed, verdict.failures
    assert verdict.not_recomputed == []
    assert verdict.counts.log_entries > 8
    assert (verdict.counts.steps, verdict.counts.sums, len(verdict.costs)) == (8, 8, 3)


def test_a_plain_installation_without_torch_flower_and_network_is_enough() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, "verify", "sample"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "VERIFIED: everything in the bundle holds." in done.stdout


def test_verify_says_0_or_1(tmp_path: Path) -> None:
    code, text = run("verify", "sample", "--json")
    assert (code, json.loads(text)["passed"]) == (0, True)
    code, text = run("verify", "sample", "--study", "0" * 64)
    assert code == 1
    assert "other-consortium" in text
    path = tmp_path / "none.zip"
    path.write_bytes(b"nothing")
    code, text = run("verify", str(path))
    assert code == 1
    assert "NOT VERIFIED: 1 failure." in text
    with pytest.raises(AuditError, match="cannot be read"):
        run("verify", str(tmp_path / "missing"))
    with pytest.raises(AuditError, match="is a folder") as caught:
        run("verify", str(tmp_path))
    assert "A simulation" in (caught.value.hint or "")


def test_a_verdict_says_when_nobody_has_compared_the_roster() -> None:
    code, text = run("verify", "sample")
    assert code == 0
    assert "by phone, and give it as --roster" in text
    digits = text.partition("compared by phone: ")[2].partition("\n")[0]
    for told in (digits, digits.replace(" ", "")):
        code, text = run("verify", "sample", "--roster", told)
        assert (code, "give it as --roster" in text) == (0, False)
    code, text = run("verify", "sample", "--roster", "1" * 30)
    assert code == 1
    for odd in ("abc", "1" * 29, "g" * 64):
        with pytest.raises(ConfigError, match=r"30 digits"):
            run("verify", "sample", "--roster", odd)


@pytest.mark.parametrize("name", ["../x", "a/b", ""])
def test_an_auditors_name_is_no_path(tmp_path: Path, name: str) -> None:
    key = tmp_path / "a.key"
    make_auditor_key(key, None)
    with pytest.raises(ConfigError, match="no auditor's name"):
        run("sign", "sample", "--name", name, "--key", str(key))
    before = key.read_bytes()
    with pytest.raises(ConfigError, match="exists already"):
        run("tamper", "sample", "-o", str(key))
    assert key.read_bytes() == before


def test_tamper_breaks_one_thing_and_shows_how_it_is_found(tmp_path: Path) -> None:
    out = tmp_path / "broken.zip"
    code, text = run("tamper", "sample", "--seed", "1", "-o", str(out))
    assert code == 0
    assert "Broken (" in text
    assert "Found: " in text
    assert not verify_bundle(out.read_bytes()).passed
    assert run("tamper", "sample", "--seed", "1")[1].splitlines()[0] == text.splitlines()[0]
    code, text = run("tamper", "sample", "--kind", "sum-false")
    assert "Found: sum " in text
    with pytest.raises(CraftsflError, match="There is no kind"):
        run("tamper", "sample", "--kind", "nonsense")


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "auditor.key"
    code, text = run("key", "-o", str(path), "--no-passphrase")
    assert code == 0
    assert len(text.split('key = "')[1].split('"')[0]) == 64
    assert path.stat().st_mode & 0o077 == 0
    with pytest.raises(CraftsflError, match="already exists"):
        make_auditor_key(path, None)


def test_a_stranger_cannot_sign(tmp_path: Path) -> None:
    path, key = tmp_path / "bundle.zip", tmp_path / "auditor.key"
    path.write_bytes(bundle("pooled"))
    make_auditor_key(key, None)
    with pytest.raises(AuditError, match="does not list this key"):
        run("sign", str(path), "--name", "dr-weiss", "--key", str(key))
    path.write_bytes(bundle("pooled")[:-1])
    with pytest.raises(AuditError, match="does not hold"):
        run("sign", str(path), "--name", "dr-weiss", "--key", str(key))
    assert list(tmp_path.glob("*.verdict")) == []


def test_the_report_is_a_page_that_needs_nothing_else(tmp_path: Path) -> None:
    code, text = run("report", "sample", "-o", str(tmp_path / "report"))
    assert code == 0
    page = (tmp_path / "report" / "report.html").read_text()
    assert text.splitlines()[0].endswith("report.html")
    assert "src=" not in page
    assert "http" not in page.replace("http-equiv", "")
    for words in (
        *("Against whom", "What an attacker could tell", "Side channels", "NIST SP 800-226"),
        *("What is not claimed", "zero-out", "Digests", "Threshold, collusion", "Empirical bound"),
    ):
        assert words in page
    assert "Hospitals: Hospital north (north); Hospital harbour (harbour)" in page
    assert "Attempts from 1970-01-01 00:16 UTC to " in page
    assert "Whose it is, no file can tell" in page
    assert "Whoever undoes the masks" in page
    assert "passed at 3 of 3 sites, variance 1.0017 to 1.0017" in page
    assert "δ&nbsp;=&nbsp;1e-05</span> or less, the sum of the studies’ own" in page
    assert "What else to know" not in page  # nothing is
    assert page.count("<svg") == 3
    assert page.count('role="img" aria-label="Epsilon of ') == 3
    print_rules = page.index("@media print")
    assert page.index(".card {") < print_rules  # else the rules for screens win on paper
    record = json.loads((tmp_path / "report" / "registry.json").read_text())
    assert record.keys() == {"url_slug", "deployment"}
    assert {name: list(part) for name, part in record["deployment"].items()} == REGISTRY_FIELDS
    basic, model = record["deployment"]["basic"], record["deployment"]["deployment_model"]
    assert basic["data_product_type"] == "Machine learning model"
    assert {one["data_curator_type"] for one in basic["data_curators"]} == {""}  # for a person
    assert model["model_name"] in ("Local", "Central", "Shuffle", "Federated", "Varies")
    assert record["deployment"]["privacy_loss"]["privacy_unit"] == "patient"


def test_in_a_report_of_many_sites_those_that_are_alike_share_a_curve(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    evidence, _ = read_evidence(sample_bytes())
    assert evidence is not None
    assert [one.name for one in site_curves(evidence)] == ["north", "harbour", "hillside"]
    monkeypatch.setattr("craftsfl.audit.report.figures._MOST_FIGURES", 2)
    (one,) = site_curves(evidence)
    assert one.name == "north, harbour, hillside"


def test_a_report_of_a_broken_bundle_says_so_and_escapes_it(tmp_path: Path) -> None:
    path = tmp_path / "broken.zip"
    run("tamper", "sample", "--kind", "file-added", "--seed", "x", "-o", str(path))
    run("report", str(path), "-o", str(tmp_path))
    page = (tmp_path / "report.html").read_text()
    assert "Not verified: 1 thing in the bundle does not hold." in page
    assert "file-unexpected" in page


def test_what_is_no_signed_verdict_is_refused() -> None:
    for data in (b"", b"{}", b"[]", b'{"signature":"","verdict":{"version":1}}', b"\xff" * 99):
        with pytest.raises(AuditError, match="not a signed verdict"):
            SignedVerdict.decode(data)


def test_an_auditor_signs_only_what_is_of_the_study_and_the_roster_that_they_know(
    tmp_path: Path,
) -> None:
    path, key = tmp_path / "bundle.zip", tmp_path / "auditor.key"
    path.write_bytes(promoted_bundle())
    key.write_bytes(made_auditor("promoted").pem(None))
    key.chmod(0o600)
    study = promoted().study
    typed = ["sign", str(path), "--name", "dr-weiss", "--key", str(key)]
    for option in ("--study", "--roster"):
        with pytest.raises(AuditError, match="does not hold: other-consortium"):
            run(*typed, option, "0" * 64)
    assert list(tmp_path.glob("*.verdict")) == []
    known = ["--study", study.digest().hex(), "--roster", study.secure_aggregation.roster]
    code, text = run(*typed, *known)
    assert (code, WHOSE in text) == (0, False)
    (signed,) = tmp_path.glob("*.verdict")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert SignedVerdict.decode(signed.read_bytes()).bundle == digest
    code, text = run(*typed, "-o", str(tmp_path / "again"))
    assert (code, WHOSE in text) == (0, True)


def test_a_manifest_of_which_no_epsilon_can_be_worked_out_has_a_report_all_the_same(
    tmp_path: Path,
) -> None:
    draft = Draft.of(sample_bytes(), "s")
    text = draft.files[STUDY_FILE].decode()
    draft.files[STUDY_FILE] = text.replace("delta = 1e-05", "delta = 1e-300", 1).encode()
    path = tmp_path / "tiny.zip"
    path.write_bytes(draft.sealed())
    assert run("report", str(path), "-o", str(tmp_path))[0] == 0
    page = (tmp_path / "report.html").read_text()
    assert "Not verified: " in page
    assert "No ε can be worked out of this manifest, so nothing is promised to anybody" in page
    assert "below 1e-12 rounding errors would decide" in page
    assert "What an attacker could tell</h2>" not in page
    record = json.loads((tmp_path / "registry.json").read_text())
    assert record["deployment"]["privacy_loss"]["privacy_parameters"] == {"delta": 1e-300}
