"""TLS as the service itself ends it, for where no proxy stands before it.

A certificate that is renewed in its files is taken up within seconds by new connections; those that are
open keep theirs. Which authorities vouch for clients is read at the start.
"""

import asyncio
import logging
import ssl
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Final

LOOK_SECONDS: Final = 5.0
"""How often it is looked whether the files have changed."""

_OTHERS: Final = stat.S_IRWXO | stat.S_IWGRP

_log: Final = logging.getLogger("aslgate.tls")


class UnusableTls(Exception):
    """A certificate, a key or an authority that nothing can be served with; `str()` of it says why."""


class ServerTls:
    """TLS 1.2 or newer with that certificate, the whole chain, and its key.

    With a `client_ca` a client must show a certificate of one of the authorities in that file. Raises
    `UnusableTls`.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._seen = self._look()
        self.context = self._new_context()

    async def keep_fresh(self) -> None:
        """Take up a renewed certificate, until cancelled. One that is of no use is said in the log, and
        the one before stays.
        """
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            self.renew()

    def renew(self) -> bool:
        """Take up what the files hold where they have changed; whether that was done."""
        try:
            seen = self._look()
            if seen == self._seen:
                return False
            # On trial first: a certificate without its key would take the old one away.
            self._new_context()
            self.context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (OSError, UnusableTls) as error:
            _log.warning("the renewed certificate is not taken up: %s", error)
            return False
        self._seen = seen
        _log.info("a renewed certificate was taken up")
        return True

    def _new_context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        if stat.S_IMODE(self._key.stat().st_mode) & _OTHERS:
            message = (
                f"`{self._key}`: others may read or change it: take that from them (chmod 600)"
            )
            raise UnusableTls(message)
        try:
            context.load_cert_chain(self._certificate, self._key, password=_no_password)
        except (ssl.SSLError, ValueError) as error:
            message = f"`{self._certificate}` with `{self._key}`: {_why(error)}"
            raise UnusableTls(message) from None
        if self._client_ca is not None:
            try:
                context.load_verify_locations(self._client_ca)
            except ssl.SSLError as error:
                raise UnusableTls(f"`{self._client_ca}`: {_why(error)}") from None
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _look(self) -> Sequence[tuple[int, int, int]]:
        found = [path.stat() for path in (self._certificate, self._key)]
        return [(one.st_ino, one.st_mtime_ns, one.st_size) for one in found]


def _no_password() -> str:
    """OpenSSL would ask for one at the terminal."""
    raise ValueError("the key is encrypted, and nobody is there to ask for its password")


def _why(error: Exception) -> str:
    reason = error.reason if isinstance(error, ssl.SSLError) else None
    return reason.replace("_", " ").lower() if reason else str(error)
