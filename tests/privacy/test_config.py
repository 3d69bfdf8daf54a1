"""Settings files are strict: nothing is converted, and no file ends in a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from privacy.config import Count, Positive, Strict, load_toml
from privacy.errors import ConfigError
from privacy.secagg.card import read_card


class Settings(Strict):
    """One of each."""

    budget: Positive = 1.0
    rounds: Count = 1
    allowed: bool = False
    names: tuple[str, ...] = ()
    folder: Path = Path()


def load(folder: Path, text: str) -> Settings:
    file = folder / "settings.toml"
    file.write_text(text)
    return load_toml(file, Settings)


def test_lists_paths_and_whole_numbers_are_taken_as_they_are(tmp_path: Path) -> None:
    found = load(tmp_path, 'budget = 8\nrounds = 3\nallowed = true\nnames = ["a"]\nfolder = "b"')
    assert found == Settings(budget=8.0, rounds=3, allowed=True, names=("a",), folder=Path("b"))


@pytest.mark.parametrize(
    "text",
    [
        'budget = "8"',
        "budget = true",
        "budget = nan",
        "budget = inf",
        "budget = -1",
        'rounds = "3"',
        "rounds = 3.0",
        "rounds = true",
        "rounds = 4294967296",
        f"rounds = 1{'0' * 400}",
        f"budget = 1{'0' * 400}",
        "allowed = 1",
        'allowed = "yes"',
        "names = [1]",
        "folder = 1",
    ],
)
def test_what_is_of_another_kind_is_refused_by_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=text.split()[0]) as caught:
        load(tmp_path, text)
    assert "settings.toml" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "text", [f"rounds = {'1' * 5000}", f"names = {'[' * 5000}", "rounds =", "a = 1\na = 2"]
)
def test_what_is_no_toml_is_told_in_words(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"settings\.toml"):
        load(tmp_path, text)


class Inner(Strict):
    state: Path = Path()


class Outer(Strict):
    inner: Inner = Inner()


def test_a_key_of_another_table_is_not_corrected_to_itself(tmp_path: Path) -> None:
    """As when consortium.toml is given in place of site.toml."""
    path = tmp_path / "settings.toml"
    path.write_text('state = "state"\n')
    with pytest.raises(ConfigError, match=r"unknown key state \(that belongs in another table\)"):
        load_toml(path, Outer)
    with pytest.raises(ConfigError, match=r"is a folder\. Name the file in it"):
        load_toml(tmp_path, Outer)


def test_another_users_file_names_whose_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def closed(path: Path, encoding: str) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_text", closed)
    with pytest.raises(ConfigError, match="this user may not") as caught:
        load_toml(tmp_path / "site.toml", Strict)
    assert "as the user to whom it belongs" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "says", "cure"),
    [
        ("-----BEGIN PRIVATE KEY-----\nabc", "is a key or a certificate in PEM", "(NAME.card)"),
        ('format = "x"\nrosters = ""\nstudy = ""', "is an invitation", "(NAME.card)"),
        ('policy = ""\n[data]\n[agent]', "is a hospital's settings (site.toml)", "(NAME.card)"),
        ('study = ""\nstate = ""', "is the operator's settings", "(NAME.card)"),
        ("[training]\n[privacy]\n[[sites]]", "is a study (study.toml)", "(NAME.card)"),
        ("epsilon = 8\nbases = []\nmechanisms = []", "is a hospital's policy", "(NAME.card)"),
    ],
)
def test_another_of_our_files_is_called_what_it_is(
    tmp_path: Path, text: str, says: str, cure: str
) -> None:
    file = tmp_path / "north.card"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        read_card(file)
    assert says in caught.value.message and cure in caught.value.hint


def test_what_is_no_text_is_told_in_words(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_bytes(b"\x89PNG\xff")
    with pytest.raises(ConfigError, match="is not a text in UTF-8"):
        load_toml(tmp_path / "settings.toml", Settings)
