"""`craftsfl rounds export`: loaded by diffusers and peft, the same bytes, nothing replaced."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from typer.testing import CliRunner, Result

from craftsfl.cli import app
from model.adapter_file import load_adapter
from model.generation.adapter import put_adapter
from privacy.accounting import released_epsilon
from privacy.error_ids import ErrorId
from privacy.errors import CraftsflError
from privacy.study.terms import whole_schedule
from server.tables import RunState
from tests.craftsfl.rounds.finished import FinishedStudy, figure

FILES = {
    "README.md",
    "SHA256SUMS",
    "adapter_config.json",
    "adapter_model.safetensors",
    "licences.json",
    "privacy.json",
    "pytorch_lora_weights.safetensors",
    "study.toml",
}


@pytest.fixture
def study(
    tmp_path: Path, tiny_base: Path, study_values: dict[str, Any], empty_mlflow: bytes
) -> FinishedStudy:
    return FinishedStudy(tmp_path, tiny_base, study_values, empty_mlflow)


def exported(study: FinishedStudy, out: str, *options: str) -> Path:
    result = typed(study, out, *options)
    assert result.exit_code == 0, result.output
    return study.folder / out


def typed(study: FinishedStudy, out: str, *options: str) -> Result:
    words = ["rounds", "export", str(study.file), str(study.folder / out), *options]
    return CliRunner().invoke(app, words)


def refused(result: Result) -> CraftsflError:
    assert isinstance(result.exception, CraftsflError), result.output
    return result.exception


def noise_of(unet: Any) -> torch.Tensor:
    """What the UNet answers to one fixed question."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(1, 4, 16, 16, generator=generator)
    text = torch.randn(1, 16, 32, generator=generator)
    with torch.no_grad():
        answer: torch.Tensor = unet(latents, 10, text).sample
    return answer


@pytest.mark.parametrize("frozen_a", [pytest.param(False, marks=pytest.mark.slow), True])
def test_diffusers_and_peft_load_what_craftsfl_loads(
    tmp_path: Path,
    tiny_base: Path,
    study_values: dict[str, Any],
    empty_mlflow: bytes,
    frozen_a: bool,
) -> None:
    study_values["adapter"]["frozen_a"] = frozen_a
    study = FinishedStudy(tmp_path, tiny_base, study_values, empty_mlflow)
    file = study.finish(tell=False)
    folder = exported(study, "out", "--run", "1")

    def fresh() -> StableDiffusionPipeline:
        return StableDiffusionPipeline.from_pretrained(tiny_base, safety_checker=None)

    base = fresh()
    bare = noise_of(base.unet)
    put_adapter(base, file)
    ours = noise_of(base.unet)
    assert (ours - bare).abs().max() > 1e-3
    theirs = fresh()
    theirs.load_lora_weights(str(folder))  # finds the file by its name
    assert torch.allclose(noise_of(theirs.unet), ours, atol=1e-5)
    wrapped = peft.PeftModel.from_pretrained(fresh().unet, str(folder))
    assert torch.allclose(noise_of(wrapped), ours, atol=1e-5)
    assert (folder / "pytorch_lora_weights.safetensors").read_bytes() == file.read_bytes()


def test_the_champion_is_exported_with_all_that_people_have_to_know(study: FinishedStudy) -> None:
    study.finish(figure("denoising", -0.3, -0.1))
    study.finish()
    assert "no champion" in refused(typed(study, "out")).message
    CliRunner().invoke(app, ["rounds", "promote", str(study.file), "--version", "1", "--yes"])
    folder = exported(study, "out", "--licence", "CC-BY-4.0", "--base-licence", "apache-2.0")
    assert {path.name for path in folder.iterdir()} == FILES
    card = (folder / "README.md").read_text("utf-8")
    front = yaml.safe_load(card.split("---\n")[1])
    assert front["license"] == "cc-by-4.0"
    assert front["base_model"] == study.study.base.source
    for words in (
        "# test-study, run 1",
        study.study.digest().hex(),
        study.study.base.digest,
        "| denoising | -0.2 | -0.3 to -0.1 | 20 |",
        "| the coordinator |",
        "| harbour | 800 | not given |",
        "**apache-2.0**, says the operator",
        "**CC-BY-4.0**, says the operator",
        "Not\nfor clinical use",
    ):
        assert words in card, words
    privacy = json.loads((folder / "privacy.json").read_text())
    claimed = load_adapter(folder / "pytorch_lora_weights.safetensors").origin
    assert claimed is not None
    assert privacy["epsilon"] == pytest.approx(claimed.epsilon, rel=1e-6)
    assert set(privacy["against"]) == {"server", "site", "coalition", "public", "masks-broken"}
    for line in (folder / "SHA256SUMS").read_text().splitlines():
        digest, name = line.split("  ")
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert (folder / "SHA256SUMS").read_text().count("\n") == len(FILES) - 1


def test_the_same_run_gives_the_same_bytes_and_nothing_is_replaced(study: FinishedStudy) -> None:
    study.finish(tell=False)
    first, second = (exported(study, out, "--run", "1") for out in ("one", "two"))
    assert {p.name: p.read_bytes() for p in first.iterdir()} == {
        p.name: p.read_bytes() for p in second.iterdir()
    }
    error = refused(typed(study, "one", "--run", "1"))
    assert error.id == str(ErrorId.EXPORT_TAKEN)
    (study.folder / "three").symlink_to("nowhere")
    assert refused(typed(study, "three", "--run", "1")).id == str(ErrorId.EXPORT_TAKEN)
    assert not list(study.folder.glob(".one*")) + list(study.folder.glob(".two*"))


def site_file(study: FinishedStudy, site: str, change: Callable[[dict[str, Any]], object]) -> str:
    """What `craftsfl site budget --publish --json` prints at a site, as far as it is read."""
    found = released_epsilon(whole_schedule(study.study), study.study.privacy.delta)
    own = {"study": "test-study", "delta": 1e-5, "attempts": study.study.most_attempts}
    figures = {"epsilon": found.epsilon, "second": found.second, "tolerance": found.tolerance}
    values = {
        "site": site,
        "lifetime": {"epsilon_used": 12.3456},
        "studies": [{"digest": study.study.digest().hex(), "epsilon_used": 12.3456}],
        "published": [{**own, **figures, "first": found.first}],
    }
    change(values)
    path = study.folder / f"{site}.json"
    path.write_text(json.dumps(values))
    return str(path)


def test_a_sites_published_figure_is_taken_and_nothing_else_of_its_file(
    study: FinishedStudy,
) -> None:
    study.finish(tell=False)
    file = site_file(study, "harbour", lambda values: None)
    folder = exported(study, "out", "--run", "1", "--published", file)
    sites = json.loads((folder / "privacy.json").read_text())["sites"]
    given = {site["name"]: site["published"] for site in sites}
    assert given["north"] is None and given["hillside"] is None
    assert set(given["harbour"]) == {"epsilon", "second_accountant", "tolerance"}
    assert f"| harbour | 800 | ε = {given['harbour']['epsilon']:.4f} |" in (
        folder / "README.md"
    ).read_text("utf-8")
    for path in folder.iterdir():
        assert b"12.3456" not in path.read_bytes()
    again = refused(typed(study, "no", "--run", "1", "--published", file, "--published", file))
    assert "second file of harbour" in again.message


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v["published"][0].update(epsilon=0.5), "publishes epsilon 0.5000, but"),
        (lambda v: v["published"][0].update(epsilon=float("nan")), "publishes no figure"),
        (lambda v: v["published"][0].update(delta=1e-6), "another study file"),
        (lambda v: v["studies"][0].update(digest="0" * 64), "another study file"),
        (lambda v: v.update(site="stranger"), "no site of test-study"),
        (lambda v: v.pop("published"), "publishes no figure"),
        (lambda v: v.update(published=[]), "publishes no figure"),
    ],
)
def test_a_figure_that_does_not_fit_stops_the_export(
    study: FinishedStudy, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    study.finish(tell=False)
    file = site_file(study, "harbour", change)
    assert words in refused(typed(study, "out", "--run", "1", "--published", file)).message
    assert not (study.folder / "out").exists()


def test_licences_are_said_or_their_absence_is(study: FinishedStudy, tmp_path: Path) -> None:
    study.finish(tell=False)
    result = typed(study, "silent", "--run", "1")
    assert result.output.count("Nobody has said") == 2
    card = (tmp_path / "silent" / "README.md").read_text("utf-8")
    assert "nothing is allowed" in card and "license:" not in card
    hostile = typed(study, "no", "--run", "1", "--licence", "MIT\nlicense: free")
    assert "no name of a licence" in refused(hostile).message


def test_the_shipped_bases_licence_is_found() -> None:
    from craftsfl.rounds.exporting.licences import licence_chain
    from model.cache import shipped_base
    from privacy.study.manifest import Study
    from tests.pooled_study import pooled_values

    folder = shipped_base()
    assert folder is not None
    values = pooled_values()
    study = Study.model_validate(values)
    base, adapter = licence_chain(study, "ab" * 32, own=None, base=None, root=Path("/"))
    assert (base.licence, base.said_by) == ("apache-2.0", "the base's README")
    assert (adapter.licence, adapter.said_by) == (None, "nobody")


def test_a_run_without_an_adapter_and_a_changed_one_are_refused(study: FinishedStudy) -> None:
    study.finish(state=RunState.STOPPED, tell=False)
    assert "has released no adapter" in refused(typed(study, "out", "--run", "1")).message
    assert "no ended run 9" in refused(typed(study, "out", "--run", "9")).message
    path = study.finish(tell=False)
    path.write_bytes(path.read_bytes()[:-4] + bytes(4))
    assert refused(typed(study, "out", "--run", "2")).id == str(ErrorId.ADAPTER_UNUSABLE)


def test_without_noise_nothing_is_promised(
    tmp_path: Path, tiny_base: Path, study_values: dict[str, Any], empty_mlflow: bytes
) -> None:
    study_values["training"]["noise_multiplier"] = 0.0
    study = FinishedStudy(tmp_path, tiny_base, study_values, empty_mlflow)
    study.finish(tell=False)
    folder = exported(study, "out", "--run", "1")
    assert json.loads((folder / "privacy.json").read_text())["epsilon"] is None
    card = (folder / "README.md").read_text("utf-8")
    assert "**None: the study adds no noise.**" in card
    assert (
        np.count_nonzero([line.endswith("| none (no noise) |") for line in card.split("\n")]) == 5
    )
