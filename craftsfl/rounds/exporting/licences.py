"""On whose terms an adapter may be used: of the base, of the adapter, of the program."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from model.cache import find_base
from privacy.errors import ConfigError, ModelError
from privacy.study.manifest import Study
from privacy.visible import visible

# Names of licences (SPDX, the hub's): a line of a card must not become another one.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")
_FRONT: Final = re.compile(r"^license:\s*[\"']?([A-Za-z0-9.+_-]{1,64})[\"']?\s*$", re.MULTILINE)
_HEAD: Final = 4096  # bytes of a README in which its front matter is looked for


@dataclass(frozen=True, slots=True)
class LicenceLink:
    """One link of the chain; `licence` None: nobody has said."""

    what: str
    source: str
    digest: str
    licence: str | None
    said_by: str


def licence_chain(
    study: Study, adapter: str, *, own: str | None, base: str | None, root: Path
) -> tuple[LicenceLink, ...]:
    """From the base to the adapter (SHA-256 in hex). `own`, `base`: what the operator says.

    The base's is otherwise what the README in its folder says. `root`: the folder of study.toml.
    """
    for name, value in (("--licence", own), ("--base-licence", base)):
        if value is not None and not _NAME.fullmatch(value):
            raise ConfigError(
                f"{name} is no name of a licence.", "For example CC-BY-4.0 (spdx.org/licenses)."
            )
    found, by = (base, "the operator") if base else (_of_folder(study, root), "the base's README")
    return (
        LicenceLink("base", study.base.source, study.base.digest, found, by if found else "nobody"),
        LicenceLink(
            "adapter",
            f"study {study.name}",
            f"sha256:{adapter}",
            own,
            "the operator" if own else "nobody",
        ),
    )


def chain_json(chain: Sequence[LicenceLink]) -> bytes:
    """`licences.json`."""
    return (json.dumps([asdict(link) for link in chain], indent=2) + "\n").encode()


def chain_words(chain: Sequence[LicenceLink]) -> str:
    """The chain as a list, and what follows from it (Markdown)."""
    lines = [
        f"- {link.what} (`{visible(link.source)}`): "
        + (f"**{link.licence}**, says {link.said_by}" if link.licence else "**nobody has said**")
        for link in chain
    ]
    lines.append(
        "\nWho uses the adapter uses the base with it, on both terms: restrictions of the base's "
        "licence, as OpenRAIL has them, go along with every copy."
    )
    if any(link.licence is None for link in chain):
        lines.append("Where nobody has said, nothing is allowed: ask whoever made it.")
    return "\n".join(lines)


def _of_folder(study: Study, root: Path) -> str | None:
    """What the README in the base's folder, or of the source beside the study, says."""
    folders = [root / study.base.source]
    with suppress(ModelError):  # not on this machine: whoever trains has it
        folders.append(find_base(study.base, root=root, verify=False))
    for folder in folders:
        try:
            with (folder / "README.md").open("rb") as file:
                head = file.read(_HEAD).decode("utf-8", "replace")
        except OSError:
            continue
        front = head.partition("---\n")[2].partition("\n---")[0]
        found = _FRONT.search(front)
        if found:
            return found[1]
    return None
