"""The scripts in examples/: they run, print true figures, and use the API alone."""

from __future__ import annotations

import ast
import runpy
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from privacy.ledger import AttemptKey, Charge, SqliteLedger
from privacy.mechanisms.local import PoissonGaussian

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "examples"
SCRIPTS = sorted(FOLDER.glob("*.py"))
OTHERS = {"PIL", "numpy", "torch"}  # what an example may import beyond Python and the API
PICTURE = ROOT / "docs/tiny-base.png"


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a script as `python SCRIPT ARGUMENTS` does, in this process; gives what it printed."""

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(FOLDER / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize(
    "name",
    [
        "read_ledger.py",
        "cost_of_a_study.py",
        "own_loss.py",
        "own_encoder.py",
        "own_strategy.py",
        "compare_captions.py",
    ],
)
def test_without_its_argument_an_example_says_how_it_is_called(run: Run, name: str) -> None:
    with pytest.raises(SystemExit, match=f"python {name} "):
        run(name)


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("compare_captions.py", ("none.png", "glands."), "none.png"),
        ("own_loss.py", (str(PICTURE),), "is a file. Choose another"),
        ("cost_of_a_study.py", ("none.toml",), "does not exist. Check the path"),
        ("read_ledger.py", ("none.sqlite",), "There is no ledger"),
    ],
)
def test_an_example_says_in_words_what_is_wrong(
    run: Run, name: str, arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        run(name, *arguments)
    assert said in str(ended.value.code)


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_an_example_imports_nothing_of_ours_but_the_api(path: Path) -> None:
    for module in imported(path):
        top = module.split(".")[0]
        if top not in sys.stdlib_module_names | OTHERS:
            assert module.startswith("craftsfl.api."), module


def test_every_example_is_listed_and_tried_here() -> None:
    listed, here = (FOLDER / "README.md").read_text(), Path(__file__).read_text()
    for path in SCRIPTS:
        assert f"({path.name})" in listed
        assert f'run("{path.name}"' in here


def test_the_cost_of_a_study_is_what_the_readme_shows(run: Run) -> None:
    shown = run("cost_of_a_study.py", str(ROOT / "docs/examples/study.toml"))
    assert "epsilon = 3.85 at delta = 5e-06" in shown
    assert f"The first line prints\n\n```\n{shown}```\n" in (ROOT / "README.md").read_text("utf-8")


def test_the_server_gets_the_sum(run: Run) -> None:
    shown = run("aggregate.py")
    assert shown.startswith("sum over sites (1, 2, 3)")
    # 1.6e-4 as a rule; a rotated coordinate beyond the bound adds thousandths, which is rare.
    assert float(shown.split()[-1]) < 2e-2


def test_a_ledger_is_read_and_its_charges_are_listed(run: Run, tmp_path: Path) -> None:
    event = PoissonGaussian(0.25, 4.0, 1.0, 5)
    path = tmp_path / "ledger.sqlite"
    with SqliteLedger(path, Ed25519PrivateKey.generate(), site="north") as ledger:
        for attempt in (1, 2):
            ledger.intent(AttemptKey(bytes(32), 1, 1, attempt), Charge(bytes(32), event, 1e-5))
        ledger.commit(AttemptKey(bytes(32), 1, 1, 2))
    shown = run("read_ledger.py", str(path))
    assert shown.startswith("north: ")
    assert "1 charged attempts, epsilon = 0.58" in shown


def test_a_model_of_ones_own_learns(run: Run) -> None:
    shown = run("clip_a_model.py")
    assert float(shown.split()[4]) < 1.0  # the untrained model is 2 away
    assert "epsilon = 10.53" in shown


def test_captions_are_compared(run: Run) -> None:
    shown = run("compare_captions.py", str(PICTURE), "fat cells.", "round glands.")
    assert len(shown.splitlines()) == 2


def gains(shown: str) -> dict[str, tuple[float, float, float]]:
    """What each line says: the name, then the gain and its interval, in per cent."""
    found = {}
    for line in shown.splitlines():
        name, figures = line.split(": gain ")
        mean, low, high = (float(part.strip("(),%")) for part in figures.split())
        assert low < mean < high
        found[name] = mean, low, high
    return found


@pytest.mark.slow
def test_a_loss_of_ones_own_is_simulated(run: Run, tmp_path: Path) -> None:
    shown = gains(run("own_loss.py", str(tmp_path)))
    plain, own = shown["noise-off"], shown["noise-off, loss noisy_half"]
    assert plain[0] > 0  # it learns, and another loss learns something else
    assert abs(plain[0] - own[0]) > 0.02


@pytest.mark.slow
def test_an_encoder_of_ones_own_is_simulated(run: Run, tmp_path: Path) -> None:
    shown = gains(run("own_encoder.py", str(tmp_path)))
    assert shown["noise-off"] != shown["noise-off, encoder palette"]


@pytest.mark.slow
def test_a_strategy_of_ones_own_is_simulated(run: Run, tmp_path: Path) -> None:
    shown = gains(run("own_strategy.py", str(tmp_path)))
    plain, own = shown["noise-off"], shown["noise-off, strategy ServerMomentum"]
    assert abs(plain[0] - own[0]) > 0.02


@pytest.mark.parametrize("name", ["own_loss.py", "own_encoder.py", "own_strategy.py"])
def test_something_of_ones_own_takes_forty_lines(name: str) -> None:
    assert len((FOLDER / name).read_text().splitlines()) <= 40
