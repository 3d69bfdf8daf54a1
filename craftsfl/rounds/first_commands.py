"""`craftsfl rounds init`, `add` and `renew`, as they are typed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from craftsfl.processes.flower.credentials import ServerCredentials

_Who, _What, _Where = "Who takes part", "The study", "Where it is"
_ADDRESS = "localhost:9092"


def rounds_init(
    folder: Annotated[Path, typer.Argument(help="The consortium's folder: a new one.")],
    site: Annotated[
        list[str] | None,
        typer.Option(help="A hospital, as NAME=PATIENTS; repeatable.", rich_help_panel=_Who),
    ] = None,
    consortium: Annotated[
        str,
        typer.Option(
            help="The consortium's name in the roster; the folder's if left out.",
            rich_help_panel=_Who,
        ),
    ] = "",
    colluders: Annotated[
        int,
        typer.Option(
            help="n_c: so many hospitals may tell the coordinator their noise.",
            rich_help_panel=_Who,
        ),
    ] = 1,
    epsilon: Annotated[
        float, typer.Option(help="Of the whole study.", rich_help_panel=_What)
    ] = 8.0,
    studies: Annotated[
        int,
        typer.Option(
            help="Studies like this one, one after the other, that share a hospital's delta.",
            min=1,
            rich_help_panel=_What,
        ),
    ] = 2,
    name: Annotated[
        str,
        typer.Option(help="The study's; the consortium's if left out.", rich_help_panel=_What),
    ] = "",
    base: Annotated[
        str, typer.Option(help='"tiny", or the folder of a base.', rich_help_panel=_What)
    ] = "tiny",
    steps: Annotated[int, typer.Option(help="T: steps.", rich_help_panel=_What)] = 40,
    slot: Annotated[
        float | None,
        typer.Option(help="Seconds of a step; by default twice training.", rich_help_panel=_What),
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(
            help="Instead of planning one: a study file, as craftsfl rounds plan writes it.",
            rich_help_panel=_What,
        ),
    ] = None,
    address: Annotated[
        str,
        typer.Option(
            help="HOST:PORT by which the hospitals reach this machine.", rich_help_panel=_Where
        ),
    ] = _ADDRESS,
    port: Annotated[
        int | None,
        typer.Option(
            help="Where to listen, if a proxy has the address's own port.",
            min=1,
            max=65535,
            rich_help_panel=_Where,
        ),
    ] = None,
    authority: Annotated[
        Path | None,
        typer.Option(
            help="Use an existing certificate: who signed it, in PEM.", rich_help_panel=_Where
        ),
    ] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="And the certificate itself.", rich_help_panel=_Where)
    ] = None,
    key: Annotated[
        Path | None, typer.Option(help="And its private key.", rich_help_panel=_Where)
    ] = None,
) -> None:
    """Make a consortium: settings, certificate, keys, and a study from the planner.

    Hospitals are planned by name and size; their keys come with their cards:
    craftsfl rounds add. A folder that has any of it is left as it is.
    """
    from craftsfl.rounds.founding import Founding, found_consortium
    from craftsfl.rounds.planning import PlanOptions

    called = consortium or _name_of(folder)
    plan = PlanOptions(
        site=tuple(site or ()),
        base=base,
        epsilon=epsilon,
        studies=studies,
        steps=steps,
        colluders=colluders,
        slot=slot,
    )
    asked = Founding(
        folder=folder,
        consortium=called,
        name=name or called,
        address=address,
        plan=plan,
        port=port,
        study=study,
        credentials=_credentials(authority, certificate, key),
    )
    for line in found_consortium(asked):
        typer.echo(line)


def rounds_add(
    settings: Annotated[Path, typer.Argument(help="The consortium's settings, consortium.toml.")],
    cards: Annotated[
        list[Path] | None, typer.Argument(help="The hospitals' cards, from craftsfl site init.")
    ] = None,
    study: Annotated[
        Path | None,
        typer.Option(help="The next study's file, from craftsfl rounds plan --write."),
    ] = None,
    without: Annotated[
        list[str] | None,
        typer.Option(help="With --study: a hospital that leaves, by its name; repeatable."),
    ] = None,
) -> None:
    """Add hospitals by their cards, and write the invitation once all of them are there.

    One invitation serves all: craftsfl site join takes it at each hospital.
    Their gateways are admitted while craftsfl rounds serve runs. With --study
    the consortium goes on to its next study, and the hospitals join again;
    --without names those who leave, whom that study does not list.
    """
    from craftsfl.rounds.adding import add_hospitals

    for line in add_hospitals(settings, cards or (), study, without or ()):
        typer.echo(line)


def rounds_renew(
    settings: Annotated[Path, typer.Argument(help="The consortium's settings, consortium.toml.")],
    authority_key: Annotated[
        Path | None,
        typer.Option(help="ca.key, wherever it is kept; by default beside the authority."),
    ] = None,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A further DNS name or address that it is for; repeatable."),
    ] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="For a new key: others may have the present one.")
    ] = False,
) -> None:
    """Make the next certificate, by the same authority and for the same names.

    Also where certificate or key are lost. The hospitals notice nothing: they
    trust the authority. It counts once craftsfl rounds serve has been restarted.
    """
    from craftsfl.rounds.renewing import Renewing, renew_consortium

    for line in renew_consortium(Renewing(settings, authority_key, name or (), new_key)):
        typer.echo(line)


def _name_of(folder: Path) -> str:
    """What the folder's name makes of a consortium's name."""
    return re.sub(r"[^a-z0-9]+", "-", folder.absolute().name.lower()).strip("-")[:32]


def _credentials(
    authority: Path | None, certificate: Path | None, key: Path | None
) -> ServerCredentials | None:
    from craftsfl.processes.flower.credentials import ServerCredentials
    from privacy.errors import ConfigError

    if authority is not None and certificate is not None and key is not None:
        return ServerCredentials(authority, certificate, key)
    if (authority, certificate, key) == (None, None, None):
        return None
    raise ConfigError(
        "An existing certificate has three files.",
        "Give --authority, --certificate and --key; or none of them, and an authority is made.",
    )
