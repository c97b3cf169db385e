"""A certificate and its key: whether they serve, why not, and the newest pair for each handshake of both doors."""

import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from jaxprop.errors import JaxpropError
from jaxprop_serve.settings import Settings

KINDS = "RSA of 2048 bits and more, or ECDSA on P-256 or P-384"
_OTHERS_KEY = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")  # OpenSSL's words
_NOT_YET_VALID, _EXPIRED = 9, 10  # OpenSSL's X509_V_ERR_...


class Certificate:
    """A pair of PEM files; `renew` reads them again, and what cannot serve changes nothing.

    Args:
        cert: the server's certificate, then those that lead to its root, if any.
        key: the certificate's key, not encrypted.
        for_grpc: whether gRPC has to accept the pair too.

    Raises JaxpropError, one line, for a pair that cannot serve.
    """

    def __init__(self, cert: Path, key: Path, for_grpc: bool):
        self.cert, self.key, self.for_grpc = cert, key, for_grpc
        self._newest, self._pair, self.valid = self._read()
        # This context is the one that listens: it hands each handshake over to the newest.
        self.context = self._newest
        self.context.sni_callback = self._hand_over

    def renew(self) -> bool:
        """Read both files again, and return whether they have changed.

        Raises JaxpropError, and the pair before goes on.
        """
        context, pair, valid = self._read()
        renewed = pair != self._pair
        self._newest, self._pair, self.valid = context, pair, valid
        return renewed

    def warning(self) -> str:
        """Return what is to be said of a pair that serves all the same, or ""."""
        if self.valid:
            return ""
        return f"tls_cert {self.cert}: the certificate is past its time or before it, and most clients refuse it"

    def for_grpc_door(self) -> grpc.ServerCredentials:
        """Return credentials that ask for the newest pair at each handshake."""
        given = self._pair

        def newest() -> Any:
            nonlocal given
            if given is self._pair:
                return None
            given = self._pair
            return grpc.ssl_server_certificate_configuration([given])

        return grpc.dynamic_ssl_server_credentials(grpc.ssl_server_certificate_configuration([given]), newest)

    def _hand_over(self, handshake: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        if self._newest is not context:
            handshake.context = self._newest

    def _read(self) -> tuple[ssl.SSLContext, tuple[bytes, bytes], bool]:
        key, cert = (_pem(name, file) for name, file in (("tls_key", self.key), ("tls_cert", self.cert)))
        where = f"tls_cert {self.cert} and tls_key {self.key}"
        if b"PRIVATE KEY-----" not in key:
            hint = "; are tls_cert and tls_key exchanged?" if b"BEGIN CERTIFICATE" in key else ""
            raise JaxpropError(f"tls_key {self.key}: no private key in it, expected a PEM file with one{hint}")
        if b"-----BEGIN CERTIFICATE" not in cert:
            raise JaxpropError(f"tls_cert {self.cert}: no certificate in it, expected a PEM file with one")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.cert, self.key, password=self._encrypted)
        except ssl.SSLError as error:
            if error.reason in _OTHERS_KEY:
                text = "the key is not that of the first certificate, which must be the server's own"
                raise JaxpropError(f"{where} do not belong together: {text}") from None
            why = error.reason.replace("_", " ").lower() if error.reason else "damaged, or not PEM"
            raise JaxpropError(f"{where} cannot be used: {why}") from None
        except OSError as error:
            raise JaxpropError(f"{where} cannot be read: {error.strerror}") from None
        if (key, cert) != (_pem("tls_key", self.key), _pem("tls_cert", self.cert)):
            raise JaxpropError(f"{where} are being written at this moment")
        try:
            valid = _valid(context, cert)
        except ssl.SSLError as error:
            why = (error.reason or str(error)).replace("_", " ").lower()
            raise JaxpropError(
                f"tls_cert {self.cert}: TLS clients take no certificate of this kind ({why}); make one with {KINDS}"
            ) from None
        if self.for_grpc and not _taken_by_grpc((key, cert)):
            raise JaxpropError(
                f"tls_cert {self.cert}: gRPC takes no certificate of this kind; make one with {KINDS}, "
                "or serve HTTP alone with --grpc-port off"
            )
        return context, (key, cert), valid

    def _encrypted(self) -> str:
        raise JaxpropError(
            f"tls_key {self.key} is encrypted, and a server that starts by itself cannot be asked for its password: "
            f"`openssl pkey -in {self.key} -out plain.pem` takes it away"
        )


def certificate_of(settings: Settings) -> Certificate | None:
    """Return the certificate that these settings name, if they name one. Raises JaxpropError if it cannot serve."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key, settings.grpc_port is not None)


def _pem(name: str, file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise JaxpropError(f"{name} {file} cannot be read: {error.strerror}") from None


def _taken_by_grpc(pair: tuple[bytes, bytes]) -> bool:
    """Return whether gRPC's own TLS library, which knows fewer kinds of keys than Python's, takes the pair."""
    try:
        grpc.server(ThreadPoolExecutor(1)).add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    except RuntimeError:
        return False
    return True


def _valid(context: ssl.SSLContext, cert: bytes) -> bool:
    """Return whether the certificate's time is now, for a client that trusts this one alone.

    Raises SSLError if the two cannot agree.
    """
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    trusting.load_verify_locations(cadata=cert.decode("ascii", "ignore"))
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = trusting.wrap_bio(down, up), context.wrap_bio(up, down, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            return error.verify_code not in (_NOT_YET_VALID, _EXPIRED)
    return True
