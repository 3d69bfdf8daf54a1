"""The main job on real Flower processes: it ends well, it ends when told to, it survives a loss."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path

import numpy as np
import pytest

from craftsfl.processes.supervisor import port_open
from tests.canaries import Search, plant
from tests.integration.consortium import (
    REAL_SITES,
    ROOT,
    Demo,
    demo,
    is_picture,
    write_hospitals,
)
from tests.users import shared

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(
        not (ROOT / "weights" / "tiny" / "model_index.json").exists(),
        reason="the embedded base is not in this checkout",
    ),
]


def secrets_of(folder: Path) -> set[str | bytes]:
    """Captions, file names and patient ids of all hospitals below `folder`."""
    words: set[str | bytes] = set()
    for table in folder.glob("*/metadata.csv"):
        with table.open(newline="") as stream:
            for row in csv.DictReader(stream):
                words |= {row["text"], Path(row["file_name"]).name, row["patient_id"]}
    return {word for word in words if len(word) >= 6}


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.skipif(not REAL_SITES.is_dir(), reason="no real tiles next to this checkout")
def test_three_hospitals_with_real_tiles(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    with demo(folder, REAL_SITES, rounds=2) as running:
        assert running.process.wait(500) == 0, running.text
        assert running.family() == []
        assert not port_open("127.0.0.1", running.port())
        assert "No learning expected" in running.text
        assert "ONE USER, NO AIRLOCK" in running.text
    assert shared(folder) == {}

    summary = json.loads((folder / "summary.json").read_text())
    assert [site["name"] for site in summary["sites"]] == ["site-1", "site-2", "site-3"]
    for site in summary["sites"]:
        assert site["rounds"] == 2
        assert site["patients"] in (8, 10)  # 8, 8 and 9 patients, rounded up
        assert 0 < site["epsilon"] <= site["budget"]
        assert site["masked"] is True
    assert is_picture(Path(summary["samples"]))
    check_adapter(Path(summary["adapter"]))
    check_tracking(summary["mlflow"])
    check_nothing_leaked(running, secrets_of(REAL_SITES))


def check_adapter(path: Path) -> None:
    from model.adapters import load_adapter
    from model.layout import initial_vector
    from privacy.study.manifest import load_study

    saved = load_adapter(path)
    study = load_study(path.parents[3] / "study.toml")
    start = initial_vector(saved.layout, study.digest())
    assert np.isfinite(saved.vector).all()
    assert not np.array_equal(saved.vector, start)


def check_tracking(uri: str) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (experiment,) = [e for e in client.search_experiments() if e.name == "demo-real-tiles"]
    (run,) = [
        r for r in client.search_runs([experiment.experiment_id]) if r.info.status == "FINISHED"
    ]
    steps = [m.step for m in client.get_metric_history(run.info.run_id, "updates")]
    assert steps == [1, 2]
    (model,) = client.search_registered_models()
    assert "challenger" in model.aliases


def check_nothing_leaked(running: Demo, secrets: set[str | bytes]) -> None:
    """No secret, in any form, in what coordinator, Flower, MLflow and the logs keep or print.

    All of the demo's folder counts, the gateways' homes and the agents' logs too; only what the
    agents themselves own does not.
    """
    search, leaks, read = Search(secrets), [], set()
    for path in sorted(running.folder.rglob("*")):
        first, *rest = path.relative_to(running.folder).parts
        if path.is_file() and (first, *rest[1:2]) != ("hospitals", "state"):
            read.add(first)
            leaks += search.file(path)
    leaks += search.bytes(running.output.read_bytes(), "the terminal")
    assert read >= {"coordinator", "logs", "hospitals", "summary.json"}
    assert leaks == []


@pytest.mark.slow
def test_a_killed_gateway_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    """All of the hospitals' data is planted secrets, and some of their pictures are damaged.

    There are four: three sites tolerate no drop-out under secure aggregation.
    """
    data = write_hospitals(tmp_path / "data", more=("lakeside",))
    secrets = set().union(*(plant(folder) for folder in data.iterdir()))
    with demo(tmp_path / "demo", data, rounds=2) as running:
        running.wait_for(lambda: "step 1 of 2" in running.text, seconds=300)
        victims = [p for p in running.family() if "client.gateway" in p.cmdline()]
        (victim,) = [p for p in victims if "hospitals/harbour" in " ".join(p.cmdline())]
        victim.kill()
        assert running.process.wait(500) == 0, running.text
        assert running.family() == []
        assert "harbour dropped" in running.text
    summary = json.loads((tmp_path / "demo" / "summary.json").read_text())
    rounds = {site["name"]: site["rounds"] for site in summary["sites"]}
    assert rounds["harbour"] < 2
    assert [rounds[name] for name in rounds if name != "harbour"] == [2, 2, 2]
    check_nothing_leaked(running, secrets)


@pytest.mark.parametrize(
    "moment",
    [
        "starting the hospitals",
        pytest.param("step 1 of", marks=pytest.mark.slow),
    ],
)
def test_an_interrupt_leaves_no_process_and_no_port(tmp_path: Path, moment: str) -> None:
    data = write_hospitals(tmp_path / "data")
    with demo(tmp_path / "demo", data, rounds=2) as running:
        running.wait_for(lambda: moment in running.text, seconds=300)
        port = running.port()
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 130
        assert running.family() == []
        assert not port_open("127.0.0.1", port)
        assert "Traceback" not in running.text
