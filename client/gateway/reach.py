"""Why no answer came: from the causes that httpx keeps, never from the words of a text."""

from __future__ import annotations

import socket
import ssl

import httpx

from client.gateway.trouble import FleetTrouble, Trouble

_EXPIRED, _EARLY, _OTHER_NAME = 10, 9, (62, 64)  # OpenSSL's X509_V_ERR_...


def unreachable(error: httpx.TransportError) -> FleetTrouble:
    """What `error`, a request without an answer, means."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return FleetTrouble(_certificate(cause.verify_code), cause.verify_message)
        if isinstance(cause, ssl.SSLError):
            return FleetTrouble(Trouble.TLS, cause.reason or "")
        if isinstance(cause, socket.gaierror):
            return FleetTrouble(Trouble.NO_NAME)
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return FleetTrouble(Trouble.NO_ANSWER)
    return FleetTrouble(Trouble.NO_SUPERLINK)


def _causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    link: BaseException | None = error
    while link is not None and link not in found:
        found.append(link)
        link = link.__cause__ or link.__context__
    return found


def _certificate(code: int) -> Trouble:
    if code in _OTHER_NAME:
        return Trouble.CERTIFICATE_NAME
    if code == _EXPIRED:
        return Trouble.CERTIFICATE_EXPIRED
    return Trouble.CERTIFICATE_EARLY if code == _EARLY else Trouble.CERTIFICATE_UNKNOWN
