"""The whole command on drawn tiles."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from craftsfl.cli import app
from model.adapters import layout_of, save_adapter
from model.digest import folder_digest
from model.encoders import load_encoder
from privacy.errors import ConfigError, CraftsflError, DataError, ModelError
from privacy.study.manifest import Adapter, load_study
from tests.craftsfl.model.evaluation.world import ORIGIN, SECRETS, World
from tests.model.lab.evaluation.fakes import FIGURES

pytestmark = pytest.mark.slow  # the laboratory: nothing of it is shipped to a hospital

WARNING = "STAYS AT THE SITE"


def _call(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["model", "evaluate", *map(str, arguments)])


def _run(world: World, *arguments: object) -> Result:
    encoders = ("--encoder", world.encoder, "--judge", world.judge)
    done = _call(world.real, *encoders, "--resamples", 5, *arguments)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


@pytest.fixture(scope="module")
def whole(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """JSON and page of everything at once."""
    page = tmp_path_factory.mktemp("page") / "page.html"
    sides = ("--generated", world.generated, "--training", world.training)
    done = _run(world, *sides, "--html", page, "--json")
    return json.loads(done.stdout), page


def test_json_holds_every_figure_with_its_numbers(whole: tuple[dict[str, Any], Path]) -> None:
    values, _ = whole
    names = {figure["metric"] for figure in values["figures"]}
    ranks = {"image_to_text_r10", "text_to_image_r10"}  # captions of both sides differ
    absent = {"cmmd", "semantic_agreement"}
    assert names == set().union(*FIGURES.values(), ranks) - absent
    for figure in values["figures"]:
        assert figure["n_real"] == 48 and figure["n_generated"] == 32 and figure["seed"] == 0
        assert figure["low"] is not None and figure["high"] is not None and figure["source"]
    assert "No generated image has a real tile's caption" in json.dumps(values["unavailable"])


def test_what_made_the_pictures_is_read_from_them(whole: tuple[dict[str, Any], Path]) -> None:
    values, _ = whole
    about = values["about"]
    assert about["epsilon"] == 7.25 and about["base"].startswith("sha256:bbbb")
    copies = [figure for figure in values["figures"] if figure["metric"] == "copies"]
    assert all(figure["beside"][-1]["value"] == 7.25 for figure in copies)


def test_no_id_name_or_caption_leaves_the_folder(whole: tuple[dict[str, Any], Path]) -> None:
    values, page = whole
    text = json.dumps(values).casefold() + page.read_text().casefold()
    assert not [secret for secret in SECRETS if secret.casefold() in text]
    assert not re.search(r"(red|green|blue|grey) tissue", text)


def test_the_page_is_whole_and_its_owners_alone(whole: tuple[dict[str, Any], Path]) -> None:
    _, page = whole
    text = page.read_text()
    assert WARNING.casefold() in text.casefold() or "not differentially private" in text
    assert not re.search(r'(src|href)="(?!data:)', text)  # nothing is fetched
    assert text.count("data:image/svg+xml") >= 4 and text.count("data:image/png") == 1
    assert "SHOWS PATIENTS" not in text
    assert page.stat().st_mode & 0o077 == 0


def test_patients_tiles_are_shown_only_when_asked_for_and_loudly(
    world: World, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    sides = ("--generated", world.generated, "--training", world.training)
    _run(world, *sides, "--metric", "memorisation", "--html", page, "--with-patients")
    text = page.read_text()
    assert "LOCAL: THIS PAGE SHOWS PATIENTS" in text
    assert text.count("data:image/png") == 4  # generated, real, and pairs in two spaces
    assert page.stat().st_mode & 0o077 == 0


def test_the_table_says_that_it_stays_unless_all_tiles_are_public(world: World) -> None:
    arguments = ("--generated", world.generated, "--metric", "kid")
    private = _run(world, *arguments)
    assert private.stdout.count(WARNING) >= 1 and private.stderr.count(WARNING) == 1
    assert "floor" in private.stdout and "kid" in private.stdout
    assert WARNING not in _run(world, *arguments, "--public-data").output


def test_mlflow_gets_numbers_alone(world: World, tmp_path: Path, empty_mlflow: bytes) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    (tmp_path / "mlflow.db").write_bytes(empty_mlflow)
    sides = ("--generated", world.generated, "--training", world.training)
    _run(world, *sides, "--tracking-uri", uri, "--experiment", "quality")
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("quality")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    found = run.data.metrics
    assert {"evaluation/kid/encoder", "evaluation/kid/encoder/floor"} <= set(found)
    assert found["evaluation/copies/pixels/epsilon_bound"] == 7.25
    everything = json.dumps([found, run.data.params, run.data.tags]).casefold()
    assert not [secret for secret in SECRETS if secret.casefold() in everything]
    assert str(world.real) not in everything
    again = ("--metric", "kid", "--tracking-uri", uri, "--run", run.info.run_id)
    assert run.info.run_id in _run(world, "--generated", world.generated, *again).stderr


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("--run", "1"), ConfigError, "--tracking-uri"),
        (("--tracking-uri", "https://x", "--experiment", "e"), ConfigError, "may not be sent"),
        (("--metric", "fid"), ConfigError, "Unknown metric: fid"),
        (("--with-patients",), ConfigError, "--html"),
        (("--html", "/nowhere/page.html"), ConfigError, "does not exist"),
        (("--base", "tiny"), ConfigError, "Name one of the two"),
        (("--metric", "drift"), ConfigError, "needs the adapter"),
        (("--metric", "mask"), ConfigError, "have no mask"),
        (("--metric", "cmmd"), ModelError, "of images and texts"),
        (("--metric", "memorisation"), ModelError, "--training"),
    ],
)
def test_bad_input_is_an_error_that_says_what_to_do(
    world: World, arguments: tuple[str, ...], error: type[CraftsflError], words: str
) -> None:
    with pytest.raises(error, match=words):
        _run(world, "--generated", world.generated, *arguments)


def test_patients_who_were_trained_on_are_refused_without_their_names(
    world: World, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="16 of 16 patients") as caught:
        _run(world, "--generated", world.generated, "--training", world.real)
    assert SECRETS[0] not in str(caught.value)
    renamed = shutil.copytree(world.real, tmp_path / "renamed")
    table = renamed / "metadata.csv"
    table.write_text(re.sub(r",PATIENT-(\d+)", r",other-\1", table.read_text()))
    with pytest.raises(DataError, match=r"48 pictures .* under other ids"):
        _run(world, "--generated", world.generated, "--training", renamed)


def test_real_files_among_the_generated_ones_are_refused(world: World) -> None:
    with pytest.raises(DataError, match="48 files"):
        _run(world, "--generated", world.real)


def test_the_encoder_of_the_studys_training_may_not_judge(
    world: World, tmp_path: Path, study_values: dict[str, Any]
) -> None:
    study = tmp_path / "study.toml"
    study.write_text(_study_toml(study_values, load_encoder(str(world.judge)).digest))
    with pytest.raises(ModelError, match="took part"):
        _run(world, "--generated", world.generated, "--study", study)
    study.write_text(_study_toml(study_values, "sha256:" + "9" * 64))
    with pytest.raises(ConfigError, match="not trained by the study"):
        _run(world, "--generated", world.generated, "--study", study)


def _study_toml(values: dict[str, Any], digest: str) -> str:
    """A study of stage two whose structure is matched with the encoder of `digest`."""
    values["training"]["loss"] = "stage-two"
    tables = [f"{name} = {json.dumps(values[name])}" for name in ("name", "rounds")]
    for name, content in values.items():
        for table in content if isinstance(content, list) else [content]:
            if isinstance(table, dict):
                tables.append(f"[[{name}]]" if isinstance(content, list) else f"[{name}]")
                tables += [f"{key} = {json.dumps(value)}" for key, value in table.items()]
    tables += ["[stage_two.structure]", 'weight = 0.1\nmargin = 0.5\nblock = "up_blocks.1"']
    tables += ["[stage_two.structure.encoder]", f'source = "x"\ndigest = "{digest}"']
    return "\n".join(tables) + "\n"


def test_a_base_draws_from_the_real_captions_on_the_spot(
    world: World, tiny_base: Path, tmp_path: Path
) -> None:
    arguments = ("--base", tiny_base, "--images", 20, "--steps", 1, "--metric", "agreement")
    values = json.loads(_run(world, *arguments, "--metric", "kid", "--json").stdout)
    assert {figure["metric"] for figure in values["figures"]} == {"kid", "semantic_agreement"}
    assert {figure["n_generated"] for figure in values["figures"]} == {20}
    assert values["about"]["adapter"] is None


def test_masks_are_asked_of_a_folder_alone(world: World, tiny_base: Path) -> None:
    with pytest.raises(ConfigError, match="drawn under masks"):
        _run(world, "--base", tiny_base, "--metric", "mask")


def test_what_most_leaves_out_is_said(world: World) -> None:
    arguments = ("--generated", world.generated, "--metric", "kid", "--most", 20, "--json")
    notes = " ".join(json.loads(_run(world, *arguments).stdout)["notes"])
    assert "20 of 48 real tiles" in notes and "20 of 32 generated images" in notes


def test_generated_files_that_repeat_are_left_out_and_that_is_said(
    world: World, tmp_path: Path
) -> None:
    folder = shutil.copytree(world.generated, tmp_path / "copies")
    shutil.copy(folder / "made-0.png", folder / "made-9.png")
    arguments = ("--generated", folder, "--metric", "kid", "--json")
    notes = " ".join(json.loads(_run(world, *arguments).stdout)["notes"])
    assert "2 generated rows could not be used" in notes


def test_an_adapter_of_another_base_is_refused_before_anything_is_drawn(
    world: World, tiny_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = Adapter(targets=("attn2.to_q",), rank=1, alpha=1.0)
    layout = layout_of(tiny_base, adapter)
    vector = np.zeros(layout.parameters, np.float32)
    origin = replace(ORIGIN, base="sha256:" + "0" * 64)
    save_adapter(tmp_path / "a.safetensors", layout, vector, adapter, origin)

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("drawn")

    monkeypatch.setattr("model.lab.evaluation.subject.sample", refuse)
    with pytest.raises(ModelError, match="trained on another base"):
        _run(world, "--base", tiny_base, "--adapter", tmp_path / "a.safetensors")


@pytest.mark.parametrize("honest", [True, False])
def test_an_adapter_of_more_layers_than_its_study_is_not_the_studys(
    world: World, tiny_base: Path, tmp_path: Path, study_values: dict[str, Any], honest: bool
) -> None:
    """Its file may claim the study's digest and epsilon, and be consistent in itself."""
    path = tmp_path / "study.toml"
    path.write_text(_study_toml(study_values, load_encoder(str(world.encoder)).digest))
    study = load_study(path)
    more = {"targets": (*study.adapter.targets, "attn1.to_q")}
    adapter = study.adapter if honest else study.adapter.model_copy(update=more)
    layout = layout_of(tiny_base, adapter)
    origin = replace(ORIGIN, base=folder_digest(tiny_base), study_digest=study.digest().hex())
    vector = np.zeros(layout.parameters, np.float32)
    save_adapter(tmp_path / "a.safetensors", layout, vector, adapter, origin)
    drawn = ("--base", tiny_base, "--adapter", tmp_path / "a.safetensors", "--study", path)
    options = (*drawn, "--images", 20, "--steps", 1, "--metric", "kid", "--json")
    if honest:
        notes = " ".join(json.loads(_run(world, *options).stdout)["notes"])
        assert "as the adapter's file claims" in notes
        return
    with pytest.raises(ConfigError, match="not trained by the study"):
        _run(world, *options)


def test_a_study_that_the_judge_took_no_part_in_is_named(
    world: World, tiny_base: Path, tmp_path: Path, study_values: dict[str, Any]
) -> None:
    study = tmp_path / "study.toml"
    study.write_text(_study_toml(study_values, load_encoder(str(world.encoder)).digest))
    drawn = ("--base", tiny_base, "--images", 20, "--steps", 1, "--study", study)
    done = _run(world, *drawn, "--metric", "alignment")
    said = " ".join(done.stdout.split())
    assert "took no part in this study's training" in said
    assert "distances in its space may be flattering" in said  # training used the other encoder
