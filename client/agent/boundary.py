"""The boundary of the agent: errors stop here, and what is said about them names no patient.

An exception's text, and the values in a traceback, can contain a caption or a file name. So the log
gets the text only of our own errors, which by rule are free of patients' data (see
`privacy.errors`), and of all the type and the place in the code.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from privacy.errors import CraftsflError, DataError

# Libraries that log their input; diffusers quotes the words of captions that are too long.
_TALKATIVE = ("diffusers", "transformers", "huggingface_hub", "peft", "opacus", "PIL", "flwr")
_FORMAT = "%(asctime)s %(levelname)s {who}%(message)s"

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Failure:
    """What may be said about an exception."""

    text: str


def contained(
    action: Callable[[], _Result], say: Callable[[BaseException], Failure] | None = None
) -> _Result | Failure:
    """`action()`, or what may be said about why it failed: `say`, which is `describe` unless given.

    Lets KeyboardInterrupt through.
    """
    try:
        return action()
    except Exception as error:  # noqa: BLE001 - the agent's boundary: nothing may pass with its text
        return (say or describe)(error)


def describe(error: BaseException) -> Failure:
    """The text of `error` where that is free of patients' data; then its type and place.

    People read the words, and whoever gives support the rest.
    """
    if isinstance(error, CraftsflError) and not isinstance(error, DataError):
        return Failure(f"{error} ({kind_and_place(error)})")
    if isinstance(error, OSError) and error.strerror:
        return Failure(f"{error.strerror} ({kind_and_place(error)})")
    return Failure(f"an error whose words may name a patient ({kind_and_place(error)})")


def kind_and_place(error: BaseException) -> str:
    """The type of `error` and, once it was raised, the place in the code."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


def configure_logs(who: str = "") -> None:
    """Let only the agent's own lines reach standard error; for its and the trainer's process only.

    `who` stands before every line's text.
    """
    own = logging.getLogger("craftsfl")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_FORMAT.format(who=who)))
    own.handlers = [handler]
    own.setLevel(logging.INFO)
    own.propagate = False
    logging.getLogger().handlers = [logging.NullHandler()]
    logging.raiseExceptions = False  # of a full disk under the log, it would print a traceback
    warnings.simplefilter("ignore")
    for library in ("DIFFUSERS", "TRANSFORMERS"):
        os.environ[f"{library}_VERBOSITY"] = "critical"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    sys.excepthook = _hook
    threading.excepthook = lambda args: _hook(args.exc_type, args.exc_value, args.exc_traceback)


def silence_libraries(names: Iterable[str] = _TALKATIVE) -> None:
    """Remove the handlers that libraries install when they are imported."""
    for name in names:
        logger = logging.getLogger(name)
        logger.handlers = [logging.NullHandler()]
        logger.propagate = False


def _hook(
    kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
) -> None:
    text = describe(error).text if error is not None else kind.__name__
    logging.getLogger("craftsfl.agent").error("Unexpected error: %s", text)
