"""What an operator asks of a SuperLink: admit a node, start and stop a Flower run, ask after runs.

Flower's Control API by its own client and messages, in this process: a call takes about 20 ms,
where the `flwr` command takes seconds. Flower's run is transport; a study's run is something else
(server/store.py).
"""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from craftsfl.processes.flower.operator_key import read_operator_key
from craftsfl.processes.flower.shown_key import ShowsKey
from privacy.error_ids import ErrorId
from privacy.errors import ConfigError, DeploymentError

if TYPE_CHECKING:
    import httpx
    from flwr.supercore.control import ControlHttpClient

    from craftsfl.processes.flower.commands import SuperLink

_Answer = TypeVar("_Answer")
_WHICH_KEY: Final = "Give the .pub file that craftsfl site init made."
_IS_IT_RUNNING: Final = (
    "Is `craftsfl rounds serve` running? Check address and port in consortium.toml."
)


@dataclass(frozen=True)
class FlowerRun:
    """A run as the SuperLink knows it."""

    id: int
    status: str  # pending, starting, running, finished
    sub_status: str  # of a finished one: completed, failed, stopped
    details: str  # why it failed

    @property
    def ended(self) -> bool:
        """Whether nothing will happen any more under this id."""
        return self.status == "finished"


def register_node(link: SuperLink, public_key: Path) -> int:
    """Admit the SuperNode with this key (OpenSSH, on a NIST curve); returns its node id.

    Raises `ConfigError` for another file and for a key that is admitted already.
    """
    from flwr.proto.control_pb2 import RegisterNodeRequest

    request = RegisterNodeRequest(public_key=_key_bytes(public_key))
    return int(_asked(link, lambda client: client.RegisterNode(request), key=public_key).node_id)


def start_flower_run(link: SuperLink, fab: bytes, config: Mapping[str, str | int]) -> int:
    """Start a run of the app bundle `fab` with these settings; returns Flower's id of the run."""
    from flwr.common.serde import fab_to_proto, user_config_to_proto
    from flwr.proto.control_pb2 import StartRunRequest
    from flwr.supercore.fab import Fab

    bundle = Fab(hashlib.sha256(fab).hexdigest(), fab, {})
    request = StartRunRequest(
        fab=fab_to_proto(bundle), override_config=user_config_to_proto(dict(config))
    )
    answer = _asked(link, lambda client: client.StartRun(request))
    if not answer.HasField("run_id"):
        raise DeploymentError("The SuperLink started no run.", "Its log says why: superlink.log.")
    return int(answer.run_id)


def stop_flower_run(link: SuperLink, flower_run: int) -> bool:
    """Stop a run; False if it had ended already."""
    from flwr.proto.control_pb2 import StopRunRequest

    if (found := flower_run_state(link, flower_run)) is None or found.ended:
        return False
    request = StopRunRequest(run_id=flower_run)
    try:
        return bool(_asked(link, lambda client: client.StopRun(request)).success)
    except _AlreadyFinished:  # between the two questions
        return False


def flower_run_state(link: SuperLink, flower_run: int) -> FlowerRun | None:
    """What became of one run; None if the SuperLink does not know it."""
    try:
        found = _listed(link, run_id=flower_run)
    except _NoSuchRun:
        return None
    return found[0]


def flower_runs(link: SuperLink, most: int = 100) -> list[FlowerRun]:
    """The newest runs, at most `most`, newest first."""
    return _listed(link, limit=most)


def _listed(link: SuperLink, **which: int) -> list[FlowerRun]:
    from flwr.proto.control_pb2 import ListRunsRequest

    answer = _asked(link, lambda client: client.ListRuns(ListRunsRequest(**which)))
    runs = sorted(answer.run_dict.values(), key=lambda run: str(run.pending_at), reverse=True)
    return [
        FlowerRun(run.run_id, run.status.status, run.status.sub_status, run.status.details)
        for run in runs
    ]


class _NoSuchRun(DeploymentError):
    """The SuperLink does not know the run."""


class _AlreadyFinished(DeploymentError):
    """The run has ended by itself."""


def node_states(link: SuperLink) -> dict[int, str]:
    """Node id -> status of all nodes that were admitted (registered, online, offline)."""
    from flwr.proto.control_pb2 import ListNodesRequest

    answer = _asked(link, lambda client: client.ListNodes(ListNodesRequest()))
    return {node.node_id: node.status for node in answer.nodes_info}


def answers(link: SuperLink) -> bool:
    """Whether the SuperLink answers the operator by now."""
    try:
        flower_runs(link, 1)
    except DeploymentError as error:
        if error.id == ErrorId.SUPERLINK_SILENT:
            return False
        raise
    return True


def ask_gate(link: SuperLink, seconds: float = 10.0) -> None:
    """Whether anybody is in: the gate's refusal will do, and leaves no line in a log.

    Raises `DeploymentError` if nothing comes within `seconds`.
    """
    import httpx

    try:
        trusted = ssl.create_default_context(cafile=link.credentials.authority)
    except OSError as error:  # ssl.SSLError is one
        raise _no_authority(link, error) from None
    try:
        httpx.head(f"https://{link.address}/", verify=trusted, timeout=seconds, trust_env=False)
    except httpx.HTTPError as error:
        raise _unanswered(link, error) from None


def _asked(
    link: SuperLink, ask: Callable[[ControlHttpClient], _Answer], key: Path | None = None
) -> _Answer:
    """What the SuperLink answers. Raises `DeploymentError`, `ConfigError` about `key`."""
    import httpx

    try:
        with _client(link) as client:
            return ask(client)
    except httpx.HTTPStatusError as error:
        raise _refused(link, error.response, key) from None
    except httpx.HTTPError as error:
        raise _unanswered(link, error) from None


def _unanswered(link: SuperLink, error: httpx.HTTPError) -> DeploymentError:
    """Why there was no answer, or none of this SuperLink's."""
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return DeploymentError(
            f"Whoever answers at {link.address} has no certificate of this authority: "
            f"{_why(error)}.",
            f"Compare the certificate of the SuperLink with {link.credentials.authority}; it "
            "must not have expired and must name that address. Another program may have taken "
            "the port.",
            id=ErrorId.CERTIFICATE_UNUSABLE,
        )
    return DeploymentError(
        f"The SuperLink at {link.address} does not answer: {_why(error)}.",
        _IS_IT_RUNNING,
        id=ErrorId.SUPERLINK_SILENT,
    )


def _why(error: BaseException) -> str:
    """What the system says of it, without its numbers and the names of exceptions."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return str(cause.verify_message).rstrip(".")
        if isinstance(cause, ssl.SSLError):
            return f"not TLS as it should be ({cause.reason or 'no reason given'})"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    if "Timeout" in type(error).__name__:
        return "it took too long"
    return "what came is no answer of a SuperLink"


def _client(link: SuperLink) -> ControlHttpClient:
    from flwr.supercore.control import ControlHttpClient

    try:
        authority = link.credentials.authority.read_bytes()
        return ControlHttpClient.from_server_address(
            server_address=link.address,
            insecure=False,
            root_certificates=authority,
            interceptors=[ShowsKey(read_operator_key(link.secret))],
        )
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise _no_authority(link, error) from None


def _no_authority(link: SuperLink, error: Exception) -> DeploymentError:
    return DeploymentError(
        f"The authority {link.credentials.authority} cannot be used: {_why(error)}.",
        "Put the PEM file there that the SuperLink's certificate was signed with.",
        id=ErrorId.CERTIFICATE_UNUSABLE,
    )


def _refused(
    link: SuperLink, response: httpx.Response, key: Path | None
) -> DeploymentError | ConfigError:
    """The SuperLink's refusal, in words that say what to do."""
    from flwr.supercore.error import ApiErrorCode

    code, detail = _words(response)
    if response.status_code == 401:
        return DeploymentError(
            f"The SuperLink at {link.address} does not accept this operator's key.",
            f"It was started with another secret than {link.secret}: restart `craftsfl rounds "
            "serve`, with the same file.",
            id=ErrorId.OPERATOR_REFUSED,
        )
    if code == ApiErrorCode.PUBLIC_KEY_ALREADY_IN_USE:
        return ConfigError(
            f"The key {key} is admitted already.",
            "Nothing is left to do, if it is the same hospital's. A key is never shared: another "
            "hospital makes its own with `craftsfl site init`.",
            id=ErrorId.KEY_ADMITTED,
        )
    if code == ApiErrorCode.PUBLIC_KEY_NOT_VALID:
        return ConfigError(f"{key} is no key that a SuperLink takes.", _WHICH_KEY)
    kinds: dict[int, type[DeploymentError]] = {
        ApiErrorCode.RUN_ID_NOT_FOUND: _NoSuchRun,
        ApiErrorCode.RUN_ALREADY_FINISHED: _AlreadyFinished,
    }
    return kinds.get(code, DeploymentError)(
        f"The SuperLink at {link.address} refused: {detail}",
        "Its log says more: superlink.log.",
        id=ErrorId.SUPERLINK_REFUSED,
    )


def _words(response: httpx.Response) -> tuple[int, str]:
    try:
        answer = json.loads(response.text)
        return int(answer.get("code", 0)), str(answer.get("detail", response.status_code))
    except (ValueError, AttributeError):
        return 0, f"status {response.status_code}"


def _key_bytes(path: Path) -> bytes:
    """A public key as Flower sends it; raises `ConfigError`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        key = serialization.load_ssh_public_key(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", _WHICH_KEY) from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigError(f"{path} is not a SuperNode's public key.", _WHICH_KEY) from None
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise ConfigError(f"{path} is not a key on a NIST curve.", _WHICH_KEY)
    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
