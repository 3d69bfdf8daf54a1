"""The auditor's commands as one file: our code and all that it needs, for machines like this one.

Compiled libraries cannot be imported out of a zip file. So the program unpacks itself once, into a
folder of the user's own whose name is the digest of everything in it, and runs from there, without
looking at what else is installed.
"""

# Why: docs/adr/0060-auditors-bundle.md

from __future__ import annotations

import hashlib
import json
import platform
import re
import sys
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

from craftsfl.new_file import check_is_new, elsewhere
from privacy.errors import ConfigError
from privacy.files import replacing

_OURS: Final = ("craftsfl", "privacy", "strategies", "model")
_LEFT_OUT: Final = frozenset(
    {"demo", "empirical", "lab", "planning", "processes", "rounds", "simulation", "site"}
)
_BASE: Final = ("click", "cryptography", "dp-accounting", "numpy", "pydantic", "rich", "typer")
_MORE: Final = ("jinja2",)
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_UNUSED: Final = frozenset({"tests", "test", "__pycache__"})
_READABLE: Final = 0o644
_BOOTSTRAP: Final = '''\
"""Unpacks what is in this file into a folder of its user's own, once, and runs it."""
import json, os, platform, runpy, stat, sys, tempfile, zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main():
    with zipfile.ZipFile(HERE) as file:
        made = json.loads(file.read("made.json"))
        here = [platform.system(), platform.machine(), "%d.%d" % sys.version_info[:2]]
        if here != made["for"]:
            sys.exit("This file is for %s; this is %s. Make one here: craftsfl audit zipapp"
                     % (" ".join(made["for"]), " ".join(here)))
        folder = unpacked(file, made["digest"])
    kept = [p for p in sys.path[1:] if "site-packages" not in p and "dist-packages" not in p]
    sys.path[:] = [str(folder), *kept]
    sys.argv[0] = "craftsfl-audit"
    from craftsfl.audit.program import main as run
    run()


def unpacked(file, digest):
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "craftsfl"
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = root / ("audit-" + digest[:32])
    if not folder.exists():
        with tempfile.TemporaryDirectory(dir=root, prefix=".audit-") as part:
            whole = Path(part) / "whole"
            file.extractall(whole)
            try:
                os.rename(whole, folder)
            except OSError:
                if not folder.exists():
                    raise
    facts = folder.stat()
    if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o022:
        sys.exit("%s belongs to somebody else, or others can change it. Remove it." % folder)
    return folder


main()
'''


def write_zipapp(out: Path) -> int:
    """Write the program to `out`; how many bytes it has. Raises `ConfigError` where it cannot."""
    check_is_new(out)
    files = dict(sorted({**_own_files(), **_library_files()}.items()))
    digest = hashlib.sha256()
    try:
        with replacing(out, 0o777) as stream:
            stream.write(b"#!/usr/bin/env python3\n")
            with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, path in files.items():
                    data = path.read_bytes()
                    digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
                    archive.writestr(_entry(name), data, zipfile.ZIP_DEFLATED)
                made = {"for": _machine(), "digest": digest.hexdigest()}
                archive.writestr(_entry("made.json"), json.dumps(made))
                archive.writestr(_entry("__main__.py"), _BOOTSTRAP)
        return out.stat().st_size
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}.", elsewhere(out)) from None


def _machine() -> list[str]:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [platform.system(), platform.machine(), version]


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = _READABLE << 16
    return info


def _own_files() -> dict[str, Path]:
    root = Path(__file__).resolve().parents[2]
    found = {}
    for room in _OURS:
        for path in (root / room).rglob("*"):
            name = path.relative_to(root)
            if not path.is_file() or _UNUSED & set(name.parts):
                continue
            if _LEFT_OUT & set(name.parts[:2]):
                continue
            found[name.as_posix()] = path
    return found


def _library_files() -> dict[str, Path]:
    found = {}
    for distribution in _libraries():
        for path in distribution.files or ():
            if path.suffix == ".pyc" or ".." in path.parts or _UNUSED & set(path.parts):
                continue
            whole = Path(str(distribution.locate_file(path)))
            if whole.is_file():
                found[path.as_posix()] = whole
    return found


def _libraries() -> Iterator[metadata.Distribution]:
    """What we need, and what that needs, as far as it is installed."""
    wanted, seen = [*_BASE, *_MORE], set()
    while wanted:
        name = wanted.pop()
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # on other systems, or other Pythons, only
        key = distribution.metadata["Name"].lower()
        if key in seen:
            continue
        seen.add(key)
        yield distribution
        for line in distribution.requires or ():
            match = _NAME.match(line)
            if match is not None and "extra ==" not in line:
                wanted.append(match[0])
