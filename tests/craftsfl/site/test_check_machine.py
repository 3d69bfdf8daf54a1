"""`craftsfl site check`, the machine and the way out: on real files, sockets and certificates."""

from __future__ import annotations

import http.server
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email.utils import formatdate
from pathlib import Path

import pytest

from bench.far_site import Authority
from client.agent.startup import load_rules
from client.data.imagefolder import SiteTile
from client.gateway.trouble import Trouble
from client.settings import GatewaySettings, load_site
from craftsfl.site.check import machine, study
from craftsfl.site.check.catalogue import MEANINGS, checks_page, level_of
from craftsfl.site.check.command import check_site, show_check
from craftsfl.site.check.connection import Reached, judged_way, reach
from craftsfl.site.check.finding import Checked, CheckId, Fact, Finding, Level
from craftsfl.site.check.pace import cut_captions, judged_pace
from tests.client.hospital import write_hospital
from tests.client.studies import make_study

DAY = 86_400.0
TINY = "sha256:80b992d175dfb2e59865edba89fde09d0ebaa3aeffc91ebbc9066f75712b01ec"


def found(checked: Iterator[Checked]) -> dict[CheckId, str]:
    return {item.id: f"{item.words} {item.cure}" for item in checked if isinstance(item, Finding)}


def test_every_finding_is_explained_on_the_page() -> None:
    assert set(MEANINGS) == set(CheckId)
    page = (Path(__file__).parents[3] / "docs/checks.md").read_text("utf-8")
    assert page == checks_page(), "python -m craftsfl.site.check.catalogue > docs/checks.md"


@contextmanager
def superlink(folder: Path, *, lifetime: float = 90 * DAY, ahead: float = 0.0) -> Iterator[str]:
    """An HTTPS server at the address that it yields, whose clock is `ahead` seconds ahead."""
    files = Authority().sign(folder, lifetime)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(404)
            self.end_headers()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() + ahead, usegmt=True)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            pass

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    server = Quiet(("127.0.0.1", 0), Handler)
    server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()


def gateway(address: str, authority: Path) -> GatewaySettings:
    return GatewaySettings(
        superlink=address, root_certificates=authority, key=Path("n.key"), home=Path("home")
    )


def test_the_way_to_a_coordinator_is_tried_as_it_is(tmp_path: Path) -> None:
    with superlink(tmp_path) as address:
        own = gateway(address, tmp_path / "ca.pem")
        well = reach(own)
        Authority().sign(tmp_path / "other", DAY)
        other = reach(gateway(address, tmp_path / "other" / "ca.pem"))
    assert well.trouble == ""
    assert well.ends == pytest.approx(time.time() + 90 * DAY, abs=600)
    assert abs(well.ahead or 0) < well.doubt + 1
    assert other.trouble == Trouble.CERTIFICATE_UNKNOWN.name
    assert CheckId.CERTIFICATE in found(judged_way(other, own, time.time()))
    away = reach(own)
    assert away.trouble == Trouble.NO_SUPERLINK.name
    assert "127.0.0.1" in found(judged_way(away, own, time.time()))[CheckId.COORDINATOR]


def test_a_coordinator_whose_clock_is_off_is_noticed(tmp_path: Path) -> None:
    with superlink(tmp_path, ahead=-60.0) as address:
        own = gateway(address, tmp_path / "ca.pem")
        words = found(judged_way(reach(own), own, time.time()))
    assert "ahead" in words[CheckId.CLOCK]


@pytest.mark.parametrize(
    ("what", "id"),
    [
        (Reached(ends=10 * DAY), CheckId.CERTIFICATE),
        (Reached(ends=40 * DAY), None),
        (Reached(ahead=5.0, doubt=0.5), CheckId.CLOCK),
        (Reached(ahead=-200.0, doubt=0.5), None),
        (Reached(ahead=-400.0, doubt=0.5), CheckId.CLOCK),
        (Reached(trouble="NO_NAME"), CheckId.COORDINATOR),
        (Reached(trouble="CERTIFICATE_EXPIRED"), CheckId.CERTIFICATE),
        (Reached(trouble="no such word"), CheckId.COORDINATOR),
        (Reached(), None),
    ],
)
def test_what_was_found_on_the_way_is_judged(what: Reached, id: CheckId | None) -> None:
    own = gateway("somewhere:9092", Path("ca.pem"))
    assert set(found(judged_way(what, own, 0.0))) == ({id} if id else set())


def test_a_key_that_others_can_read_is_named_and_not_used(tmp_path: Path) -> None:
    site = write_hospital(tmp_path)
    (tmp_path / "site.key").chmod(0o644)
    report = check_site(site, quick=True)
    assert report.exit_status == 2
    assert [finding.id for finding in report.findings] == [CheckId.PRIVATE_FILES]
    assert "chmod 600" in report.findings[0].cure


def test_a_gateway_without_its_key_is_found_before_it_is_served(tmp_path: Path) -> None:
    site = write_hospital(tmp_path)
    with site.open("a") as file:
        file.write('\n[gateway]\nsuperlink = "localhost:1"\nkey = "supernode.key"\nhome = "gw"\n')
    texts = [finding.words for finding in check_site(site, quick=True).findings]
    assert any("supernode.key does not exist" in text for text in texts)
    (tmp_path / "supernode.key").write_bytes(b"")
    texts = [finding.words for finding in check_site(site, quick=True).findings]
    assert not any("supernode.key does not exist" in text for text in texts)


Spoil = Callable[[Path], object]


def edit(name: str, old: str, new: str) -> Spoil:
    def change(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return change


@pytest.mark.parametrize(
    ("spoil", "id", "words"),
    [
        (edit("site.toml", "[data]", "[dat]"), CheckId.SETTINGS, "dat"),
        (edit("site.toml", '"north"', '"nowhere"'), CheckId.SETTINGS, "does not list"),
        (edit("policy.toml", 'studies = ["any"]', 'studies = ["' + "ab" * 32 + '"]'),
         CheckId.STUDY_FORBIDDEN, "not among `studies`"),
        (edit("site.toml", "= true", "= false"), CheckId.PERSONS_UNCONFIRMED, "not set"),
        (lambda folder: (folder / "roster.cfl").unlink(), CheckId.ROSTER, "roster.cfl"),
        (edit("study.toml", 'source = "tiny"', 'source = "nobody/has-it"'), CheckId.BASE,
         "craftsfl model install"),
        (edit("site.toml", '"a.sock"', f'"{"a" * 100}.sock"'), CheckId.SOCKET, "can be bound"),
        (edit("policy.toml", "study_epsilon = 20.0", "study_epsilon = 1.0"),
         CheckId.STUDY_UNPAID, "all 6 attempts"),
        (lambda folder: (folder / "tiles/metadata.csv").unlink(), CheckId.DATA_UNREADABLE, ""),
    ],
    ids=lambda value: str(value) if isinstance(value, CheckId) else "",
)  # fmt: skip
def test_each_mistake_is_found_with_its_cure(
    tmp_path: Path, spoil: Spoil, id: CheckId, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("craftsfl.site.check.command.check_pace", lambda *_: ())
    base = {"digest": TINY, "source": "tiny"}
    site = write_hospital(tmp_path, study=make_study(base=base))
    assert check_site(site).exit_status <= 1
    spoil(tmp_path)
    report = check_site(site)
    texts = {finding.id: f"{finding.words} {finding.cure}" for finding in report.findings}
    assert words in texts[id]
    assert report.exit_status == 2 == level_of(id)


def test_the_state_folder_of_others_and_no_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = load_site(write_hospital(tmp_path))
    assert found(machine.check_room(site)) == {}
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(0o755)
    assert "mode 0755" in found(machine.check_room(site))[CheckId.STATE_FOLDER]
    monkeypatch.setattr("craftsfl.site.check.machine._LITTLE", 1 << 60)
    assert CheckId.DISK in found(machine.check_room(site))


def test_versions_and_the_agents_network_on_this_machine(tmp_path: Path) -> None:
    policy = load_rules(write_hospital(tmp_path)).rules.policy
    assert found(machine.check_versions()) == {}
    assert all(isinstance(item, Fact) for item in machine.check_network(policy))


def test_a_version_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    needs = ['torch==1; extra == "site"', 'no-such-package; extra == "site"', 'x; extra == "y"']
    monkeypatch.setattr("craftsfl.site.check.machine._requirements", lambda: needs)
    words = found(machine.check_versions())[CheckId.VERSIONS]
    assert "torch is " in words
    assert "no-such-package is missing" in words


def test_a_round_that_takes_longer_than_its_slot() -> None:
    assert found(judged_pace(2.0, 40, 60.0)).keys() == {CheckId.TOO_SLOW}
    assert found(judged_pace(1.0, 40, 60.0)) == {}


class Words:
    """A tokenizer of words."""

    model_max_length = 4

    def __call__(self, texts: list[str], **_: object) -> dict[str, list[list[int]]]:
        return {"input_ids": [[0] * (2 + len(text.split())) for text in texts]}


def test_captions_that_the_model_cuts_are_counted_by_row() -> None:
    texts = ["two words", "canary of three", "two words", "canary of three"]
    tiles = [SiteTile(Path("t"), text, 0, b"", row=row) for row, text in enumerate(texts, 1)]
    words = found(cut_captions(Words(), tiles))[CheckId.CAPTIONS_CUT]
    assert "2 captions are longer than the 4 tokens" in words
    assert "rows 2, 4" in words
    assert "canary" not in words


def test_the_whole_check_as_a_program_reads_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, cohort = {"digest": TINY, "source": "tiny"}, {"reply_slot": 60.0}
    site = write_hospital(tmp_path, study=make_study(base=base, cohort=cohort))
    status = show_check(site, quick=False, as_json=True)
    printed = capsys.readouterr().out
    values = json.loads(printed)
    assert status == values["exit"] == Level.LOOK
    assert {finding["id"] for finding in values["findings"]} == {"enlarged"}
    assert values["findings"][0]["docs"] == "docs/checks.md#enlarged"
    assert "at most" in values["facts"]["pace"]
    assert "20 tiles of 10 patients" in values["facts"]["tiles"]
    assert "canary" not in printed
    assert not (tmp_path / "state").exists()


def test_a_pause_is_a_finding(tmp_path: Path) -> None:
    site = load_rules(write_hospital(tmp_path))
    (tmp_path / "state").mkdir(mode=0o700)
    (tmp_path / "state/wish.json").write_text('{"wish": "pause"}')
    (tmp_path / "state/wish.json").chmod(0o600)
    assert "paused" in found(study.check_wish(site))[CheckId.TOOK_BACK]
