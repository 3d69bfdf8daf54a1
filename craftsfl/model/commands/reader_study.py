"""`craftsfl model reader-study make` and `score`, as they are typed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

reader_study = typer.Typer(
    help="Readers judge pictures without knowing which are synthetic.",
    no_args_is_help=True,
    suggest_commands=False,
)


@reader_study.command("make")
def model_readers_make(
    out: Annotated[Path, typer.Argument(help="A new folder for pages and key.")],
    real: Annotated[
        Path, typer.Option(help="Real tiles (imagefolder with metadata.csv), not trained on.")
    ],
    synthetic: Annotated[
        Path, typer.Option(help="Drawn ones: what craftsfl model sample --out-dir wrote.")
    ],
    before: Annotated[
        Path | None,
        typer.Option(
            help="The same prompts and seeds without the adapter: also ask which is better."
        ),
    ] = None,
    readers: Annotated[int, typer.Option(help="How many people judge.")] = 3,
    each: Annotated[int, typer.Option(help="Pictures of each kind.")] = 20,
    seed: Annotated[
        int | None,
        typer.Option(help="For tests: whoever knows it could work out what is what.", min=0),
    ] = None,
) -> None:
    """Make a page for each reader, and the key.

    A page is one file that works offline: real or synthetic, which of four
    captions, before or after training, quality from 1 to 5; by keyboard, saved
    as it goes. Pages show patients' tiles and stay at the site. Says beforehand
    what so many judgements can show.
    """
    from craftsfl.model.readers.kit import KEY_FILE, KitRequest, make_kit
    from craftsfl.model.readers.words import power_words

    made = make_kit(KitRequest(out, real, synthetic, before, readers, each, seed))
    typer.echo("\n".join([*power_words(made.items, readers), *made.notes]))
    typer.echo(
        f"{len(made.pages)} pages in {out}, one for each reader: THEY SHOW PATIENTS' TILES and "
        f"stay at the site. {out / KEY_FILE} says what is what: no reader may see it.\n"
        f"Study {made.study}: write it down where others see it, before the first answer.\n"
        f"Next: {out / 'README.md'}, ethics first."
    )


@reader_study.command("score")
def model_readers_score(
    key: Annotated[Path, typer.Argument(help="The study's key.json.")],
    answers: Annotated[list[Path], typer.Argument(help="What the readers' pages saved.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    sign: Annotated[
        Path | None,
        typer.Option(
            help="Also write a signed result for craftsfl rounds promote: the file of your key, as "
            "craftsfl audit key makes it."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Your name in the study's promotion.readers, with --sign.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The signed result; beside the key unless given."),
    ] = None,
) -> None:
    """Open the key, and say what the answers show, with intervals and agreement.

    Answers of another study, and a key that was changed since the pages were
    made, are refused. Questions without an answer are left out and counted.
    """
    from craftsfl.model.readers.answers import as_score_json, as_score_table, score_files
    from craftsfl.model.readers.signing import check_signing, sign_readers
    from craftsfl.terminal import output, say

    check_signing(sign, name, out)
    scored = score_files(key, answers)
    if sign is not None and name is not None:
        file = out or key.parent / f"{name}.readers"
        sign_readers(scored, name, sign, file)
        say(
            f"{file}: what {name} signs for the coordinator's folder `readers`. It comes from "
            "patients' tiles and no epsilon covers it: whether it may leave is the site's to say."
        )
    if json:
        typer.echo(as_score_json(scored))
        return
    output().print(as_score_table(scored))
    for reader, count in scored.missing.items():
        if count:
            typer.echo(f"{reader} left {count} questions without an answer.")
