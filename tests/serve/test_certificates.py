"""Certificates and tokens: what cannot serve is said in one line, and new ones are taken without a restart."""

import asyncio
import contextlib
import os
import ssl
from types import SimpleNamespace

import grpc
import pytest

from jaxprop.errors import JaxpropError
from jaxprop_serve.certificates import Certificate
from jaxprop_serve.grpc_door import server as grpc_server
from jaxprop_serve.http1.access import Access
from jaxprop_serve.renewal import Renewal
from jaxprop_serve.settings import Settings
from tests.cli.commands import is_a_mistake, run
from tests.serve.certificates import EXPIRED, make, needs_openssl
from tests.serve.doors import an_app, settings

SECP256K1 = "ec -pkeyopt ec_paramgen_curve:secp256k1"
OLD, NEW, ADMIN = "an-old-token-of-22-chars", "a-new-token-of-22-chars", "admin-token-of-24-chars"


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs of files by what they are."""
    folder = tmp_path_factory.mktemp("certificates")
    one, other = make(folder, "one-"), make(folder, "other-")
    rsa = make(folder, "rsa-", "rsa:2048")
    expired = folder / "old.pem", folder / "old-key.pem"
    for file, text in zip(expired, EXPIRED, strict=True):
        file.write_text(text)
    chain = folder / "chain.pem"
    chain.write_bytes(one[0].read_bytes() + other[0].read_bytes())
    backwards = folder / "backwards.pem"
    backwards.write_bytes(other[0].read_bytes() + one[0].read_bytes())
    damaged = folder / "damaged.pem"
    damaged.write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    return {
        "one": one, "other": other, "chain": (chain, one[1]), "rsa": rsa, "expired": expired,
        "of two": (one[0], other[1]), "of two kinds": (rsa[0], one[1]), "backwards": (backwards, one[1]),
        "exchanged": one[::-1], "no key": (one[0], one[0]), "damaged": (damaged, one[1]),
        "encrypted": make(folder, "encrypted-", password="secret"),
        "secp256k1": make(folder, "k1-", SECP256K1), "ed448": make(folder, "ed448-", "ed448"),
        "weak": make(folder, "weak-", "rsa:1024"),
    }  # fmt: skip


@needs_openssl
@pytest.mark.parametrize("which", ["one", "chain", "rsa", "expired"])
def test_pairs_that_serve(pairs, which):
    found = Certificate(*pairs[which], for_grpc=True)
    assert bool(found.warning()) == (which == "expired"), "one whose time is over is said, and serves"


@needs_openssl
@pytest.mark.parametrize(
    "which, says",
    [
        ("of two", "one-cert.pem and .*other-key.pem do not belong together"),
        ("of two kinds", "do not belong together"),
        ("backwards", "the first certificate, which must be the server's own"),
        ("exchanged", "exchanged"),
        ("no key", "no private key in it"),
        ("damaged", "damaged"),
        ("encrypted", "encrypted.*openssl pkey"),
        ("secp256k1", "k1-cert.pem: TLS clients take no certificate of this kind.*RSA.*P-256"),
        ("ed448", "ed448-cert.pem: gRPC takes no certificate of this kind.*RSA.*P-256.*--grpc-port off"),
        ("weak", "too small"),
    ],
)
def test_pairs_that_cannot_serve(pairs, which, says, folder):
    with pytest.raises(JaxpropError, match=says) as caught:
        Certificate(*pairs[which], for_grpc=True)
    assert "\n" not in str(caught.value)
    cert, key = pairs[which]
    flags = ("--tls-cert", cert, "--tls-key", key, "--port", 0, "--grpc-port", 0)
    is_a_mistake(run("serve", "--check-config", folder, *flags), 1, str(caught.value))
    if which == "secp256k1":
        is_a_mistake(run("serve", folder, *flags), 1, str(caught.value))


@needs_openssl
def test_a_kind_that_only_grpc_refuses_serves_http(pairs):
    assert Certificate(*pairs["ed448"], for_grpc=False).warning() == ""


class Noted(list):
    """A log."""

    hidden = ()

    def __call__(self, level, event, **fields):
        self.append((level, event, fields))

    def hide(self, secrets):
        """Remember what is not to be written."""
        self.hidden = tuple(secrets)

    @property
    def events(self):
        return [event for _, event, _ in self]


@needs_openssl
def test_a_renewed_pair_is_shown_by_both_doors_and_a_bad_one_by_none(pairs, tmp_path):
    files = tmp_path / "cert.pem", tmp_path / "key.pem"

    def put(which):
        for file, source in zip(files, pairs[which], strict=True):
            file.write_bytes(source.read_bytes())
            file.chmod(0o600)

    async def shown(port):
        trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting, server_hostname="localhost")
        found = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
        with contextlib.suppress(ssl.SSLError):
            await writer.wait_closed()
        return next(which for which in ("one", "other") if found == der(pairs[which][0]))

    def der(file):
        return ssl.PEM_cert_to_DER_cert(file.read_text())

    async def kept(port):
        """A call over a connection of before."""
        call = channel.unary_unary("/grpc.health.v1.Health/Check")
        return await call(b"", timeout=5)

    async def main():
        nonlocal channel
        put("one")
        certificate, log = Certificate(*files, for_grpc=True), Noted()
        renewal = Renewal(Settings(), Access(Settings()), certificate, log)
        http = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=certificate.context)
        limits = settings(max_queue_rows=64)
        door = await grpc_server.start(an_app(max_queue_rows=64), limits, 0, certificate)
        ports = http.sockets[0].getsockname()[1], door.port
        credentials = grpc.ssl_channel_credentials(pairs["one"][0].read_bytes())
        channel = grpc.aio.secure_channel(f"localhost:{door.port}", credentials)
        try:
            before = await kept(door.port)
            for which, seen, event in (
                ("one", "one", None),
                ("of two", "one", "the certificate is not renewed"),
                ("other", "other", "the certificate is renewed"),
            ):
                put(which)
                await renewal.renew()
                assert [await shown(port) for port in ports] == [seen, seen]
                assert log.events[-1:] == ([event] if event else [])
            assert await kept(door.port) == before, "a connection that was there goes on"
        finally:
            await channel.close()
            await door.stop()
            http.close()

    channel = None
    asyncio.run(main())


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_token_file_is_one_token_without_the_end_of_its_line(tmp_path, end):
    file = tmp_path / "token"
    file.write_bytes((OLD + end).encode())
    found = Settings(token_file=file)
    assert found.token.get_secret_value() == OLD and OLD not in repr(found)


@pytest.mark.parametrize(
    "content, given, says",
    [
        (b"short\n", {}, "token of 5 characters.*at least 16"),
        (b"\n", {}, "is empty"),
        (b"\xff\xfe", {}, "not text"),
        (f"{OLD}\n\n".encode(), {}, "ASCII without spaces"),
        (f"{OLD}\n{NEW}\n".encode(), {}, "ASCII without spaces"),
        (None, {}, "token_file .* cannot be read: No such file"),
        (OLD.encode(), {"token": OLD}, "both given"),
        (OLD.encode(), {"admin_token": OLD}, "are the same"),
    ],
)
def test_token_files_that_cannot_be(tmp_path, content, given, says):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    flags = [text for name, value in {"token_file": file, **given}.items() for text in (name, value)]
    with pytest.raises(ValueError, match=says) as caught:
        Settings(**dict(zip(flags[::2], flags[1::2], strict=True)))
    assert OLD not in str(caught.value)


def test_a_token_is_renewed_with_its_file_and_a_bad_one_is_not(tmp_path):
    file, admin = tmp_path / "token", tmp_path / "admin"
    file.write_text(OLD)
    admin.write_text(ADMIN + "\n")
    file.chmod(0o644)
    admin.chmod(0o600)
    given = Settings(token_file=file, admin_token_file=admin, max_rows=7)
    access, log = Access(given), Noted()
    renewal = Renewal(given, access, None, log)
    assert [fields["file"] for _, event, fields in log if "everybody" in event] == [str(file)]

    def opens(token, level="user"):
        with contextlib.suppress(Exception):
            access.check_token({b"authorization": f"Bearer {token}".encode()}, level)
            return True
        return False

    def renewed(text):
        other = tmp_path / "other"  # as Kubernetes does: another file under the same name
        other.write_text(text)
        os.replace(other, file)
        asyncio.run(renewal.renew())
        return opens(OLD), opens(NEW), opens(ADMIN, "admin")

    assert renewed("too-short") == (True, False, True) and log.events[-1] == "the tokens are not renewed"
    assert "too-short" not in str(log)
    assert renewed(ADMIN) == (True, False, True), "the two must differ"
    assert renewed(NEW + "\n") == (False, True, True) and log.events[-1] == "the tokens are renewed"
    assert NEW in log.hidden and NEW not in str(list(log)) and renewal.settings.max_rows == 7


def test_files_are_looked_at_while_the_server_runs(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxprop_serve.renewal.LOOK_S", 0.01)
    file = tmp_path / "token"
    file.write_text(OLD)
    given = Settings(token_file=file)
    log = Noted()
    renewal = Renewal(given, SimpleNamespace(renew=lambda _: None), None, log)

    async def main():
        watching = asyncio.create_task(renewal.watch())
        await asyncio.sleep(0.05)
        assert "the tokens are renewed" not in log.events
        file.write_text(NEW)
        async with asyncio.timeout(5):
            while "the tokens are renewed" not in log.events:
                await asyncio.sleep(0.01)
        watching.cancel()

    asyncio.run(main())
    assert log.events.count("the tokens are renewed") == 1
