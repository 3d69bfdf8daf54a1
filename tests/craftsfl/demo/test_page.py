"""The demo's page: what it says, that nothing in it can be markup, and that it ends."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from craftsfl.demo.page.charts import curve_svg, figure_text, round_ticks
from craftsfl.demo.page.facts import (
    AttackTried,
    Change,
    Curve,
    DeskFacts,
    Gallery,
    PageFacts,
    PageState,
    Wire,
)
from craftsfl.demo.page.live import LivePage, spread
from craftsfl.demo.page.opening import real_tiles
from craftsfl.demo.page.render import render_page, write_demo_page
from craftsfl.demo.page.wire import WirePictures, draw_scores
from craftsfl.demo.tiles import COMPLETE
from craftsfl.rounds.run_display import EventTail
from privacy.errors import DeploymentError
from privacy.wire.sealed import OpenedSum, Sealed
from server.clock import SystemClock
from server.event_log import EventLog
from server.events import (
    QualityMeasured,
    RoundFinished,
    RoundStarted,
    RunFailed,
    SiteFinished,
    SiteJoined,
)
from server.quality import picture_of
from tests.client.sealed import SealedSites, TinyCoordinator

MARKUP = "<script>alert('x')</script> & \"quoted\""
CURVE = Curve(
    "Held-out loss",
    "lower is better",
    (Change(0, 0.0, 0.0, 0.0), Change(6, -0.004, -0.006, -0.002)),
    {"no noise": Change(6, -0.005, -0.007, -0.003)},
)
FACTS = PageFacts(
    PageState.RUNNING,
    "All hospitals work on step 6",
    5,
    6,
    61.0,
    desks=(
        DeskFacts("north", 170, 3.25, 8.0, "training"),
        DeskFacts("harbour", 170, None, 8.0, "joined"),
    ),
    curves=(CURVE,),
    compared="They were measured with another base.",
    gallery=Gallery(("glands",), {"the base": ("a.png",), "step 2": ("",)}),
    wire=Wire(5, "north", "seen.png", "opened.png", 1536, -0.004, 3, 18, 4.1),
    attacks=(
        AttackTried("asks for more", "no", False, True),
        AttackTried("tries", "yes", True, False),
    ),
)


def test_a_page_shows_every_fact_and_loads_itself_again_while_its_run_goes_on() -> None:
    page = render_page(FACTS)
    for words in (
        "step 5 of 6",
        "ε = 3.25 of 8.00",
        "none (no noise)",
        "−0.40 % (−0.60 % to −0.20 %)",
        "1,536 numbers",
        "by chance alone about 4 would",
        "Correlation with what opened: −0.004",
        "NOT refused, charged",
        "measured with another base",
        'http-equiv="refresh"',
    ):
        assert words in page, words
    finished = render_page(replace(FACTS, state=PageState.FINISHED, verdict="It has learned."))
    assert "refresh" not in finished
    assert "It has learned." in finished
    failed = render_page(replace(FACTS, state=PageState.FAILED, note="a disk was full"))
    assert "The run has ended after step 5 of 6. a disk was full" in failed
    assert "refresh" not in failed


def test_nothing_that_a_page_is_filled_with_is_markup() -> None:
    page = render_page(
        replace(
            FACTS,
            note=MARKUP,
            verdict=MARKUP,
            desks=(DeskFacts(MARKUP, 1, 0.0, 8.0, MARKUP),),
            curves=(replace(CURVE, title=MARKUP, references={MARKUP: CURVE.points[1]}),),
            gallery=Gallery((MARKUP,), {MARKUP: ("a.png",)}),
            attacks=(AttackTried(MARKUP, MARKUP, False, True),),
        )
    )
    assert "<script>" not in page
    assert '"quoted"' not in page


def test_a_page_needs_nothing_but_its_own_folder() -> None:
    page = render_page(FACTS)
    assert "http://" not in page
    assert "https://" not in page
    assert "<link" not in page


@pytest.mark.parametrize(
    "curve",
    [CURVE, replace(CURVE, references={}), replace(CURVE, points=()), Curve("t", "e", (), {})],
)
def test_a_figure_is_well_formed_and_inside_its_frame(curve: Curve) -> None:
    figure = ElementTree.fromstring(str(curve_svg(curve, 6)))
    _, _, width, height = map(float, figure.attrib["viewBox"].split())
    for mark in figure.iter("circle"):
        assert 0 <= float(mark.attrib["cx"]) <= width
        assert 0 <= float(mark.attrib["cy"]) <= height
    assert figure.attrib["role"] == "img"


def test_a_figure_of_nothing_has_no_minus() -> None:
    assert figure_text(0.0, share=True) == "+0.00 %"
    assert figure_text(-0.00001, share=True) == "+0.00 %"


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (-0.1383, 0.0078, [-0.1, -0.05, 0.0]),
        (-0.221, 0.885, [0.0, 0.25, 0.5, 0.75]),
        (-0.0106, 0.0106, [-0.01, -0.005, 0.0, 0.005, 0.01]),
        (-0.5, 0.5, [-0.4, -0.2, 0.0, 0.2, 0.4]),
    ],
)
def test_an_axis_has_round_numbers(low: float, high: float, ticks: list[float]) -> None:
    assert round_ticks(low, high) == pytest.approx(ticks)


def test_a_page_that_cannot_be_written_says_where(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeploymentError, match=r"index\.html cannot be written"):
        write_demo_page(FACTS, tmp_path / "file")


def test_columns_are_the_first_the_last_and_some_between() -> None:
    assert spread([0, 2, 4], 6) == [0, 2, 4]
    assert spread(list(range(0, 41, 2)), 6) == [0, 8, 16, 24, 32, 40]


def live(tmp_path: Path) -> LivePage:
    return LivePage(
        folder=tmp_path / "page",
        events=EventTail(tmp_path / "events.jsonl"),
        pictures=tmp_path / "pictures",
        prompts=("glands", "mucin"),
        real=lambda: None,
        began=0.0,
        patients={"north": 500},
    )


def test_a_run_is_followed_by_its_events(tmp_path: Path) -> None:
    page = live(tmp_path)
    (tmp_path / "pictures").mkdir()
    log = EventLog(tmp_path / "events.jsonl", SystemClock(), run="1")
    picture_of(tmp_path / "pictures", 0, 0).write_bytes(b"PNG")
    for event in (
        SiteJoined("north", 500, 0.0, 8.0, True),
        RoundStarted(1, 6, 1, ("north",), "step"),
        SiteFinished(1, 6, 1, "north", 1.5, 2.0),
        RoundFinished(1, 6, 1, 1, 0.1, 2.0, ("north",), True, "step"),
        QualityMeasured(0, "denoising", 0.5, 0.0, None, None, 40, 60),
        QualityMeasured(1, "denoising", 0.49, -0.01, -0.02, -0.005, 40, 60),
        QualityMeasured(0, "alignment", 0.02, 0.0, 0.0, 0.0, 30, 30),
        QualityMeasured(1, "alignment", 0.32, 0.3, 0.2, 0.4, 30, 30),
    ):
        log.emit(event)
    page.refresh()
    text = (page.folder / "index.html").read_text("utf-8")
    assert "step 1 of 6" in text
    assert "ε = 1.50 of 8.00" in text
    assert "−2.00 % (−4.00 % to −1.00 %)" in text
    assert "+0.020 before, +0.320 after, +0.300 (+0.200 to +0.400)" in text
    assert (page.folder / "round-0000-1.png").read_bytes() == b"PNG"
    assert "round-0000-2.png" not in text  # was not drawn


def test_a_run_that_fails_and_a_demo_that_is_ended_leave_a_page_that_says_so(
    tmp_path: Path,
) -> None:
    page = live(tmp_path)
    page.close()
    assert "The demo was stopped" in (page.folder / "index.html").read_text("utf-8")
    page = live(tmp_path)
    EventLog(tmp_path / "events.jsonl", SystemClock(), run="1").emit(
        RunFailed("no room", "free some")
    )
    page.refresh()
    page.close()
    assert "no room" in (page.folder / "index.html").read_text("utf-8")


def test_a_real_tile_is_the_one_whose_caption_says_the_same(tmp_path: Path) -> None:
    site, target = tmp_path / "site", tmp_path / "page"
    site.mkdir()
    target.mkdir()
    (site / "metadata.csv").write_text(
        "file_name,text,patient_id\na.png,pale pools of mucin,1\nb.png,round glands,2\n"
    )
    (site / "a.png").write_bytes(b"mucin")
    (site / "b.png").write_bytes(b"glands")
    prompts = ("round glands with lumens", "mucin", "keratin")
    assert real_tiles(prompts, [site], target) is None  # is still being made
    (site / COMPLETE).touch()
    assert real_tiles(prompts, [site], target) == ("real-1.png", "real-2.png", "")
    assert (target / "real-1.png").read_bytes() == b"glands"
    assert real_tiles(prompts, [], target) == ("", "", "")


class _Kept:
    """What the coordinator's store has of some steps."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, bytes]] = []
        self.answers: dict[tuple[int, int], dict[str, bytes]] = {}

    def sums(self, after: int = 0) -> list[tuple[int, int, bytes]]:
        return [kept for kept in self.steps if kept[0] > after]

    def vectors(self, key: tuple[int, int]) -> dict[str, bytes]:
        return self.answers[key]


def test_under_masks_there_is_nothing_to_see_and_what_opens_is_seen(tmp_path: Path) -> None:
    """On real agents, whose patients all pull the same way."""
    sites, kept = SealedSites(tmp_path), _Kept()
    coordinator = TinyCoordinator(sites)
    coordinator.open()
    for number in range(1, sites.study.rounds + 1):
        step = coordinator.begun()
        sites.sleep(sites.study.cohort.reply_slot)
        answers = coordinator.send_all(step)
        found = coordinator.added(step, answers)
        coordinator.take(found)
        assert isinstance(found, OpenedSum)
        kept.steps.append((number, 1, found.encode()))
        sealed = {sites.name(site): answer for site, answer in answers.items()}
        assert all(isinstance(answer, Sealed) for answer in sealed.values())
        kept.answers[number, 1] = {name: answer.encode() for name, answer in sealed.items()}
    wire = WirePictures(sites.study, kept, tmp_path)  # type: ignore[arg-type]
    shown = wire.newest()
    assert shown is not None
    assert (shown.step, shown.hospital, shown.numbers) == (sites.study.rounds, "harbour", 12)
    assert (tmp_path / shown.seen).exists()
    assert (tmp_path / shown.opened).exists()
    assert wire._opened is not None
    assert wire._seen is not None
    root = math.sqrt(sites.study.rounds)
    assert np.abs(wire._opened / root).max() > 20  # 1,500 patients agree
    assert np.abs(wire._seen / root).max() < 6
    assert shown.opened_beyond > shown.chance_beyond == pytest.approx(12 * 0.0027, rel=1e-3)
    assert abs(shown.correlation) < 0.95  # of the same twelve numbers twice, it would be 1
    assert wire.newest() is None  # nothing new
    sites.close()


def test_chance_is_pale_and_what_leaves_it_has_a_colour() -> None:
    picture = np.asarray(draw_scores(np.array([0.0, 4.0, -4.0, 0.5])), float)
    pale, above, below, weak = picture.reshape(-1, 3)[:4]
    assert np.ptp(pale) < 10
    assert np.abs(above - pale).max() > 100
    assert np.abs(below - above).max() > 50
    assert np.abs(weak - pale).max() < np.abs(above - pale).max() / 4
