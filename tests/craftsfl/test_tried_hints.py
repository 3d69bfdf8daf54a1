"""Hints of the laboratory's, planner's and auditors' commands: typed, and what they then say."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from craftsfl.terminal import progress_bars
from model.encoders.files import shipped_encoder
from privacy.errors import ModelError
from tests.craftsfl.called import call

AT = "@/"  # a path in the test's own folder
SAMPLE = Path(__file__).parents[2] / "docs/examples/study.toml"
NO_BASE = "sha256:" + 64 * "0"


READING = {
    "id": "q",
    "task": "quality",
    "pictures": ["a.png"],
    "captions": [],
    "origin": "real",
    "truth": "",
}


class Tried(NamedTuple):
    """A command line, what its error has to say, and what its hint has to offer."""

    typed: tuple[str, ...]
    said: str
    hint: str


def drawn(*options: str, out: str = "@/a.png") -> tuple[str, ...]:
    return "model", "sample", "x", "--out", out, *options


def released(*options: str) -> tuple[str, ...]:
    return drawn("--adapter", "models:/x/1", *options)


TABLE = (
    Tried(drawn("--guidance", "nan"), "guidance of nan", "Give 0 to 100"),
    Tried(drawn("--guidance", "1e308"), "guidance of 1e+308", "3 is usual"),
    Tried(drawn("--size", "100000"), "100000 px", "multiple of 8, 4096 at most"),
    Tried(drawn(out="@/file/a.png"), "is not a folder", "Name another place"),
    Tried(drawn(out="@/none/a.png"), "is not a folder", "Make it first"),
    Tried(drawn("--base", "sha256:00"), "is no digest", "64 hex digits"),
    Tried(drawn("--base", NO_BASE), "not in this user's model cache", "model install FOLDER"),
    Tried(drawn("--base", "@/file"), "is a file", "holds model_index.json"),
    Tried(released(), "nothing says in which", "--tracking-uri"),
    Tried(released("--tracking-uri", "nonsense://x"), "no address", "http://HOST:PORT"),
    Tried(released("--tracking-uri", "ftp://u:secret@h"), "ftp://u:***@h", "http://HOST"),
    Tried(released("--tracking-uri", "sqlite:///@/empty"), "no MLflow database", "result.json"),
    Tried(released("--tracking-uri", "@/mlruns"), "no MLflow database", "result.json"),
    Tried(("model", "describe", "@/none.png"), "is not a file", "Check the path"),
    Tried(("model", "describe", "@/file.png"), "not an image of a known format", "craftsfl drew"),
    Tried(("model", "describe", "@/none.safetensors"), "does not exist", "Check the path"),
    Tried(("model", "install", "@/file"), "is a file", "holds model_index.json"),
    Tried(("model", "install", "@/encoder"), "model_index.json", "--encoder"),
    Tried(("model", "install", "--encoder", "@/encoder"), "cut short", "Get the folder again"),
    Tried(("model", "install", "--encoder", "@/file"), "is a file", "config.json"),
    Tried(("model", "pretrain", "@/base"), "holds a base already", "Name a new folder"),
    Tried(("model", "pretrain", "@/file"), "is a file", "Name a new folder"),
    Tried(("model", "pretrain-encoder", "@/encoder"), "holds an encoder already", "new folder"),
    Tried(("model", "pretrain-control", "@/control"), "holds a control already", "new folder"),
    Tried(("model", "control-fidelity", "--json", "@/base"), "it is a folder", "--json"),
    Tried(("model", "control-fidelity", "--picture", "@/a.jpg"), "not a PNG", "something.png"),
    Tried(("audit", "zipapp", "-o", "@/file"), "exists already", "a new file with -o"),
    Tried(("audit", "key", "-o", "@/file"), "already exists", "choose another path"),
    Tried(("audit", "key", "-o", "@/none/key"), "is not a folder", "Make it first"),
    Tried(
        ("audit", "sign", "sample", "--name", "me", "--key", "@/none"),
        "is not a file",
        "craftsfl audit key -o KEYFILE",
    ),
    Tried(
        ("audit", "tamper", "sample", "--seed", "x", "-o", "@/none/b.zip"),
        "cannot be written",
        "Make the folder",
    ),
    Tried(
        ("model", "reader-study", "score", "@/key.json", "@/key.json"),
        "is the key of a readers' study",
        "reader-NN-answers.json",
    ),
    Tried(
        ("model", "evaluate", "@/base", "--metric", "drift", "--generated", "@/control"),
        "not finished pictures",
        "--adapter",
    ),
    Tried(("model", "evaluate", "@/base", "--html", "@/base"), "is a folder", "--html PAGE"),
    Tried(("demo", "--references", "@/base"), "is a folder", "references.json"),
    Tried(
        ("simulate", str(SAMPLE), "--data", "@/base", "--dir", "@/sim"),
        "has 0 sub-folders",
        "leave --data out",
    ),
    Tried(
        ("simulate", str(SAMPLE), "--sites", "1001", "--dir", "@/sim"),
        "a roster has 1000 sites at most",
        "--sites 1000 or fewer",
    ),
    Tried(
        ("rounds", "plan", "--sites", "3", "--patients", "99", "--rehearsals", "@/file"),
        "is not a text in UTF-8",
        "python -m bench.rehearsals --write FILE",
    ),
)


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what people name by mistake."""
    folder = tmp_path_factory.mktemp("desk")
    for name in ("file", "file.png"):
        (folder / name).write_bytes(b"\xc5\xfe no such file\0")
    (folder / "empty").touch()
    for name, holds in (("base", "model_index.json"), ("control", "control.json")):
        (folder / name).mkdir()
        (folder / name / holds).touch()
    key = {"format": 2, "items": [READING], "readers": ["reader-01"], "salt": "00"}
    (folder / "key.json").write_text(json.dumps(key))
    shipped = shipped_encoder("tiny-evaluator")
    assert shipped is not None
    shutil.copytree(shipped, folder / "encoder")
    whole = (folder / "encoder/model.safetensors").read_bytes()
    (folder / "encoder/model.safetensors").write_bytes(whole[:5000])
    return folder


@pytest.mark.parametrize("tried", TABLE, ids=lambda tried: " ".join(tried.typed))
def test_what_an_error_offers_helps_whoever_reads_it(
    tried: Tried, desk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    before = sorted(desk.rglob("*"))
    done = call(*(word.replace(AT, f"{desk}/") for word in tried.typed))
    error, _, hint = done.stderr.partition("Next: ")
    assert done.returncode == 1
    assert tried.said in error and tried.hint in hint
    assert "Traceback" not in done.stderr and "secret" not in done.stderr
    assert sorted(desk.rglob("*")) == before
    assert (desk / "file").read_bytes().endswith(b"file\0")


@pytest.mark.parametrize(
    "typed",
    [
        ("margin", "--block", "mid_block", "--seed", "-1"),
        ("margin", "--block", "mid_block", "--seed", str(2**64)),
        ("atlas", "out", "--seed", str(2**64)),
        ("sample", "x", "--out", "a.png", "--mask", ".", "--strength", "nan"),
    ],
)
def test_numbers_that_no_generator_takes_are_refused_first(typed: tuple[str, ...]) -> None:
    done = call("model", *typed)
    assert done.returncode == 2 and "Invalid value for '--s" in done.stderr


def test_bars_leave_no_trace_in_a_file() -> None:
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        contextlib.suppress(ModelError),
        progress_bars() as bars,
    ):
        bars.update(bars.add_task("drawing", total=2), completed=1)
        raise ModelError("It ends in the middle.")
    assert out.getvalue() == err.getvalue() == ""
