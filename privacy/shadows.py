"""Whether `client`, `model`, `privacy`, `server` and `strategies` are craftsfl's own packages.

Their names are plain (ADR 4), and Python takes the first that it finds: a `client.py` in the
working folder, where every Flower tutorial has one, or whatever PYTHONPATH names. Programs ask
before they import any of them. So this file is run by its path, since `privacy` may be the one that
is hidden, and imports nothing but the standard library:

    words = runpy.run_path("…/privacy/shadows.py")["explain_shadow"]()
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

OWN_PACKAGES = ("client", "model", "privacy", "server", "strategies")
_ROOT = Path(__file__).resolve().parents[1]


def explain_shadow(root: Path = _ROOT) -> str:
    """What hides one of our packages and what to do, as two lines; "" where nothing does.

    `root`: the folder that holds our packages. Nothing is imported. A package that is not found at
    all is not looked at: to import it says so.
    """
    for name in OWN_PACKAGES:
        other = _elsewhere(name, root)
        if other:
            return (
                f"Error: Python finds another `{name}` than craftsfl's: {other}.\n"
                "Next: Start craftsfl in another folder, or as python -P -m craftsfl; take what "
                "hides the package out of PYTHONPATH."
            )
    return ""


def _elsewhere(name: str, root: Path) -> str:
    """Where Python finds the package `name`, if that is not in `root`; else ""."""
    spec = find_spec(name)
    if spec is None:
        return ""
    places = [str(Path(spec.origin).parent)] if spec.origin else []
    places += spec.submodule_search_locations or []  # all there is of a folder without __init__.py
    if any(Path(place).resolve() == root / name for place in places):
        return ""
    return spec.origin or ", ".join(places)
