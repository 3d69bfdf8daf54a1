"""`craftsfl model sample` and `describe`, on a random tiny base: options, sources, refusals."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from typer.testing import CliRunner

from client.data import load_site_data
from craftsfl.cli import app
from craftsfl.model.adapter_source import find_adapter
from craftsfl.model.bases import find
from craftsfl.model.provenance import describe_file
from model.adapters import layout_of, save_adapter
from model.base import load_base
from model.digest import folder_digest
from model.generation.adapter import file_digest
from model.generation.provenance import read_provenance
from model.lab.control.network import make_control_network, save_control, spec_for
from model.layout import Layout, LayoutEntry
from model.origin import DIGEST_TAG, Origin
from privacy.errors import ConfigError, CraftsflError, DeploymentError, ModelError
from privacy.study.manifest import Adapter
from tests.tiny import build_tiny_base

ADAPTER = Adapter(targets=("attn2.to_q", "attn2.to_v"), rank=1, alpha=2.0)
ORIGIN = Origin("", "test-study", "2" * 64, "77", 12, 7.93, 1e-5, ("sha256:" + "3" * 64,))
QUICK = ["--steps", "1", "--guidance", "1"]


def run(*arguments: str | Path) -> str:
    """Run `craftsfl model …`; raises its `CraftsflError`, returns its output."""
    done = CliRunner().invoke(app, ["model", *map(str, arguments)])
    if done.exception is not None:
        raise done.exception
    return done.output


@pytest.fixture
def adapter(tmp_path: Path, tiny_base: Path) -> Path:
    layout = layout_of(tiny_base, ADAPTER)
    path = tmp_path / "adapter.safetensors"
    vector = np.random.default_rng(1).normal(size=layout.parameters).astype(np.float32)
    save_adapter(path, layout, vector, ADAPTER, replace(ORIGIN, base=folder_digest(tiny_base)))
    return path


def levels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_a_picture_shows_the_adapter_beside_the_base_and_says_so(
    tmp_path: Path, tiny_base: Path, adapter: Path
) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    run("sample", "glands", "--out", one, "--base", tiny_base, *QUICK)
    run("sample", "glands", "--out", two, "--base", tiny_base, "--adapter", adapter, *QUICK)
    assert levels(two).shape[1] > levels(one).shape[1]
    assert read_provenance(one).drawing.adapter is None
    drawing = read_provenance(two).drawing
    assert drawing.base == folder_digest(tiny_base)
    assert drawing.adapter == file_digest(adapter)
    assert drawing.origin is not None
    assert drawing.origin.epsilon == 7.93
    text = run("describe", two, adapter)
    assert text.count("7.93") >= 2
    said = json.loads(run("describe", "--json", two))[str(two)]
    assert said["Adapter"] == f"{file_digest(adapter)} (adapter.safetensors)"
    assert "not a patient" in " ".join(text.split())


def test_a_file_is_replaced_only_if_asked_for(tmp_path: Path, tiny_base: Path) -> None:
    out = tmp_path / "x.png"
    out.write_bytes(b"precious")
    command = ("sample", "glands", "--out", out, "--base", tiny_base, *QUICK)
    with pytest.raises(ConfigError, match=r"x\.png exists"):
        run(*command)
    assert out.read_bytes() == b"precious"
    run(*command, "--overwrite")
    assert read_provenance(out).prompts == ("glands",)


def test_a_folder_by_cancer_type_prompts_and_file(
    tmp_path: Path, tiny_base: Path, adapter: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("fibrous stroma\n")
    command = (
        *("sample", "mature fat", "--prompts", tmp_path / "prompts.txt", "--cancer-type", "chol"),
        *("--count", "2", "--seed", "5", "--out-dir", tmp_path / "out", "--base", tiny_base),
        *("--adapter", adapter, *QUICK),
    )
    assert "10 synthetic pictures" in run(*command)
    data = load_site_data(tmp_path / "out")
    assert data.quarantined == ()
    texts = list(dict.fromkeys(tile.caption for tile in data.tiles))
    assert texts[:2] == ["mature fat", "fibrous stroma"]
    # a base that is not the embedded one is asked as a pathologist would ask
    assert "cholangiocarcinoma, bile duct: perineural invasion." in texts
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text("utf-8"))
    assert manifest["drawing"]["origin"]["epsilon"] == 7.93
    assert manifest["drawing"]["adapter_source"] == "adapter.safetensors"
    assert "10 synthetic pictures (10 were already there)" in run(*command)


def test_the_adapter_is_in_the_pictures_of_a_folder(
    tmp_path: Path, tiny_base: Path, adapter: Path
) -> None:
    command = ("sample", "glands", "--base", tiny_base, *QUICK)
    run(*command, "--out-dir", tmp_path / "plain")
    run(*command, "--out-dir", tmp_path / "adapted", "--adapter", adapter)
    name = "images/p0001-s0.png"
    assert not np.array_equal(
        levels(tmp_path / "plain" / name), levels(tmp_path / "adapted" / name)
    )


@pytest.fixture(scope="session")
def control(tiny_base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained control whose output is not zero, so that masks leave a trace."""
    pipeline = load_base(tiny_base)
    spec = spec_for(pipeline, ("nucleus",), ("dna",), folder_digest(tiny_base))
    network = make_control_network(pipeline, spec)
    with torch.no_grad():
        for name, value in network.named_parameters():
            if "controlnet_" in name:
                value.fill_(0.05)
    folder = tmp_path_factory.mktemp("control") / "control"
    save_control(network, spec, folder)
    return folder


def test_masks_are_followed_with_an_adapter_and_come_along(
    tmp_path: Path, tiny_base: Path, adapter: Path, control: Path
) -> None:
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in (1, 2):
        labels = np.zeros((64, 64), np.uint16)
        labels[8 * number : 16 * number, 8:30] = number
        Image.fromarray(labels).save(masks / f"{number}.png")
    command = ("sample", "glands", "--base", tiny_base, "--control", control, *QUICK)
    run(*command, "--mask", masks, "--adapter", adapter, "--out-dir", tmp_path / "out")
    data = load_site_data(tmp_path / "out")
    assert data.quarantined == ()
    one, two = (tile.path for tile in data.tiles)
    assert not np.array_equal(levels(one), levels(two))
    assert all(tile.mask is not None for tile in data.tiles)
    assert read_provenance(one).drawing.control is not None
    assert read_provenance(one).conditions == (file_digest(masks / "1.png"),)
    out = tmp_path / "x.png"
    run(*command, "--fluorescence", masks / "1.png", "--out", out)
    assert read_provenance(out).conditions == (file_digest(masks / "1.png"),)
    with pytest.raises(ConfigError, match="--size is 96"):
        run(*command, "--mask", masks, "--size", "96", "--out", tmp_path / "y.png")


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["glands"], "Where to"),
        (["glands", "--out", "x.png", "--out-dir", "y"], "Where to"),
        (["--out", "x.png"], "nothing to draw"),
        (["glands", "--out", "x.jpg"], "not a PNG"),
        (["glands", "--out", "none/x.png"], "not a folder"),
        (["--out", "x.png", "--cancer-type", "COADD"], "COAD .colon adenocarcinoma"),
        (["glands", "--out", "x.png", "--adapter", "none.safetensors"], "is not a file"),
        (["glands", "--out", "x.png", "--adapter", "models:/a/b/c"], "names no model version"),
        (["glands", "--out", "x.png", "--mask", "a", "--fluorescence", "b"], "do not go together"),
        (["glands", "--out", "x.png", "--control", "a"], "nothing to follow"),
        (["glands", "--out", "x.png", "--base", "sha256:12"], "base"),
    ],
)
def test_bad_input_is_refused(
    tmp_path: Path,
    tiny_base: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    base = [] if "--base" in arguments else ["--base", str(tiny_base)]
    with pytest.raises(CraftsflError, match=says):
        run("sample", *arguments, *base)
    assert list(tmp_path.glob("*.png")) == []


def test_an_adapter_of_another_base_is_refused_and_nothing_is_begun(
    tmp_path: Path, tiny_base: Path, adapter: Path
) -> None:
    other = build_tiny_base(tmp_path / "other", seed=5)  # same shapes, other weights
    command = ("sample", "glands", *QUICK, "--out-dir", tmp_path / "out")
    with pytest.raises(ModelError) as caught:
        run(*command, "--base", other, "--adapter", adapter)
    assert folder_digest(other) in caught.value.message
    assert folder_digest(tiny_base) in caught.value.message
    layout = layout_of(tiny_base, ADAPTER)
    wider = Layout(
        tuple(
            LayoutEntry(e.name, (1, 3) if "lora_A" in e.name else e.shape, e.dtype)
            for e in layout.entries
        )
    )
    foreign = tmp_path / "foreign.safetensors"
    save_adapter(foreign, wider, np.zeros(wider.parameters, np.float32), ADAPTER)
    with pytest.raises(ModelError) as caught:
        run(*command, "--base", tiny_base, "--adapter", foreign)
    assert wider.fingerprint().hex()[:16] in caught.value.message
    assert layout.fingerprint().hex()[:16] in caught.value.message
    assert not (tmp_path / "out").exists()


def test_bases_are_found_by_folder_digest_and_name(tiny_base: Path) -> None:
    found = find(str(tiny_base))
    assert (found.folder, found.digest, found.embedded) == (
        tiny_base,
        folder_digest(tiny_base),
        False,
    )
    embedded = find(None)
    assert embedded.embedded
    assert find("tiny") == find(embedded.digest) == embedded
    with pytest.raises(ModelError):
        find("sha256:" + "0" * 64)


def test_the_types_are_listed() -> None:
    text = run("sample", "--list-types")
    assert all(code in text for code in ("ACC", "COAD", "UVM"))
    assert "perineural" in text


def test_an_adapter_without_an_origin_says_so(tmp_path: Path, tiny_base: Path) -> None:
    layout = layout_of(tiny_base, ADAPTER)
    path = tmp_path / "adapter.safetensors"
    save_adapter(path, layout, np.zeros(layout.parameters, np.float32), ADAPTER)
    said = {row.name: row.text for row in describe_file(path)}
    assert said["Privacy"].startswith("unknown")
    assert said["Adapter"] == file_digest(path)


class Registry:
    """An MLflow with a registered model."""

    def __init__(self, folder: Path, empty: bytes) -> None:
        (folder / "mlflow.db").write_bytes(empty)
        self.uri = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)
        where = (folder / "artifacts").as_uri()
        self.experiment = self.client.create_experiment("study", artifact_location=where)
        self.client.create_registered_model("study")

    def register(self, *files: Path, **tags: str) -> str:
        run = self.client.create_run(self.experiment)
        for file in files:
            self.client.log_artifact(run.info.run_id, str(file), "adapter")
        source = f"{run.info.artifact_uri}/adapter"
        made = self.client.create_model_version("study", source, run.info.run_id, tags=tags)
        return str(made.version)


@pytest.fixture
def registry(tmp_path: Path, empty_mlflow: bytes) -> Registry:
    return Registry(tmp_path, empty_mlflow)


def test_adapters_are_found_by_version_and_alias(
    tmp_path: Path, registry: Registry, adapter: Path, tiny_base: Path
) -> None:
    registry.register(adapter, **{DIGEST_TAG: file_digest(adapter)})
    registry.client.set_registered_model_alias("study", "champion", "1")
    for source in ("models:/study/1", "models:/study@champion"):
        found = find_adapter(source, registry.uri, tmp_path / "got")
        assert found.path.read_bytes() == adapter.read_bytes()
        assert (found.digest, found.source) == (file_digest(adapter), "models:/study/1")
    out = tmp_path / "x.png"
    run(
        *("sample", "glands", "--out", out, "--base", tiny_base, *QUICK),
        *("--adapter", "models:/study@champion", "--tracking-uri", registry.uri),
    )
    assert read_provenance(out).drawing.adapter_source == "models:/study/1"


def test_what_mlflow_does_not_have_is_told(
    tmp_path: Path, registry: Registry, adapter: Path
) -> None:
    registry.register(adapter, **{DIGEST_TAG: "sha256:" + "0" * 64})
    registry.register()
    for source, says in (
        ("models:/study/1", "was registered"),
        ("models:/study/2", "MLflow|0 .safetensors"),
        ("models:/study/9", "does not know models:/study/9"),
        ("models:/study@champion", "does not know"),
        ("models:/nobody/1", "does not know"),
    ):
        with pytest.raises(CraftsflError, match=says):
            find_adapter(source, registry.uri, tmp_path / "got")
    with pytest.raises(DeploymentError, match="no MLflow database"):
        find_adapter("models:/study/1", f"sqlite:///{tmp_path}/typo.db", tmp_path)
    assert not (tmp_path / "typo.db").exists()


def test_a_server_that_is_down_is_told_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not after MLflow's own seven tries."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "")
    monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES")
    began = time.monotonic()
    with pytest.raises(DeploymentError, match="nobody answers there"):
        find_adapter("models:/study/1", "http://127.0.0.1:1", tmp_path)
    assert time.monotonic() - began < 60
