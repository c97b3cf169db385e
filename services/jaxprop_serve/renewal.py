"""Tokens and certificates are read again while the server runs: when their files change, and when somebody asks."""

import asyncio
import os
from pathlib import Path

from jaxprop.errors import JaxpropError
from jaxprop_serve.certificates import Certificate
from jaxprop_serve.http1.access import Access
from jaxprop_serve.seen.logs import Log
from jaxprop_serve.settings import Settings

LOOK_S = 2.0  # so often the files are looked at, which is a few `stat`
READABLE_BY_ALL = 0o004


class Renewal:
    """What is in force; a new token or certificate that cannot be used is logged, and the one before goes on.

    Args:
        settings: which files, and the tokens that were read first.
        access: takes the new tokens.
        certificate: renewed with its files, if there is one.
        log: told of every renewal, and never writes the new tokens.
    """

    def __init__(self, settings: Settings, access: Access, certificate: Certificate | None, log: Log):
        self.settings, self.access, self.certificate, self.log = settings, access, certificate, log
        tokens = [file for file in (settings.token_file, settings.admin_token_file) if file]
        self.files = [*tokens, *([certificate.cert, certificate.key] if certificate else [])]
        self._seen = self._look()
        for file in [*tokens, *([certificate.key] if certificate else [])]:
            if (seen := self._seen[file]) and seen[0] & READABLE_BY_ALL:
                log("warning", "everybody on this machine can read a secret", file=str(file), mode=f"{seen[0]:o}"[-3:])
        self._warn()

    async def watch(self) -> None:
        """Look at the files for as long as this runs."""
        while self.files:
            await asyncio.sleep(LOOK_S)
            if await asyncio.to_thread(self._look) != self._seen:
                try:
                    await self.renew()
                except Exception as error:  # a file that is looked at next time
                    self.log("error", "the renewal failed", exception=error)

    async def renew(self) -> None:
        """Read everything again."""
        self._seen = await asyncio.to_thread(self._look)
        try:
            found = await asyncio.to_thread(self.settings.renewed)
        except JaxpropError as error:
            self.log("error", "the tokens are not renewed", reason=str(error))
        else:
            if (found.token, found.admin_token) != (self.settings.token, self.settings.admin_token):
                self.log.hide(token.get_secret_value() for token in (found.token, found.admin_token) if token)
                self.settings = found
                self.access.renew(found)
                self.log("info", "the tokens are renewed")
        if self.certificate is None:
            return
        try:
            renewed = await asyncio.to_thread(self.certificate.renew)
        except JaxpropError as error:
            self.log("error", "the certificate is not renewed", reason=str(error))
        else:
            if renewed:
                self.log("info", "the certificate is renewed", file=str(self.certificate.cert))
                self._warn()

    def _warn(self) -> None:
        if self.certificate is not None and (text := self.certificate.warning()):
            self.log("warning", text)

    def _look(self) -> dict[Path, tuple[int, ...] | None]:
        found: dict[Path, tuple[int, ...] | None] = {}
        for file in self.files:
            try:
                at = os.stat(file)
            except OSError:
                found[file] = None
            else:
                found[file] = (at.st_mode, at.st_ino, at.st_size, at.st_mtime_ns)
        return found
