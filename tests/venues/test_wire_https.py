"""The client over TLS, by an authority made for the test: who cannot prove a name is told nothing. See `wire_peer`."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from mmdaemon.venues.ccxt_client import CcxtClient
from mmdaemon.venues.ccxt_config import CcxtConfig
from mmdaemon.venues.wire_answer import Lost, Reply
from tests.venues.test_lanes import HandClock
from tests.venues.wire_peer import (
    FORMS,
    SURPLUS,
    Peer,
    a_peer,
    closed_at_each_step,
    given_up_at_each_step,
    on_each_loop,
    once,
    polite,
)

LOCALHOST = x509.DNSName("localhost")


class Authority:
    """Of certificates, for as long as the test."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "nobody's authority")])
        self._root = self._made(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None))

    def _made(self, name: x509.Name, key: ec.EllipticCurvePublicKey, of: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder(self._name, name, key, x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        return builder.add_extension(of, critical=True).sign(self._key, hashes.SHA256())

    def trusted(self) -> ssl.SSLContext:
        return ssl.create_default_context(cadata=self._root.public_bytes(Encoding.PEM).decode())

    def server(self, folder: Path, *names: x509.GeneralName) -> ssl.SSLContext:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
        certificate = self._made(subject, key.public_key(), x509.SubjectAlternativeName(names))
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        kept = folder / "server.pem"
        kept.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(kept)
        return context


@asynccontextmanager
async def a_secured_peer(folder: Path, *names: x509.GeneralName) -> AsyncGenerator[tuple[Peer, list[str | None]]]:
    """By the name of localhost, and the names that it was asked for by."""
    authority = Authority()
    context = authority.server(folder, *names)
    asked_for: list[str | None] = []

    def on_name(_socket: object, name: str | None, _context: object) -> None:
        asked_for.append(name)

    context.sni_callback = on_name
    async with a_peer(polite, context) as peer:
        peer.url = peer.url.replace("127.0.0.1", "localhost")
        peer.client._ssl_context = authority.trusted
        yield peer, asked_for


@on_each_loop
async def test_a_secured_connection_is_kept_and_asked_for_by_name(tmp_path: Path) -> None:
    async with a_secured_peer(tmp_path, LOCALHOST) as (peer, asked_for):
        for _ in range(5):
            await peer.good()
        assert await peer.asked("POST", bytes(1 << 20)) == Reply(200, "", b"n000006")
        assert len(peer.lines) == 1
        assert asked_for == ["localhost"]
        for surplus in SURPLUS.values():
            await peer.lines[-1].say(surplus)
            await peer.until_all_gone()
            await peer.good()
        peer.lines[-1].hang_up()
        await peer.until_all_gone()
        await peer.good()


@pytest.mark.parametrize("name", ["sized", "chunked, trailers"])
@on_each_loop
async def test_a_secured_answer_that_is_cut_is_none(tmp_path: Path, name: str) -> None:
    answer, _, _ = FORMS[name]
    async with a_secured_peer(tmp_path, LOCALHOST) as (peer, _):
        for then in ("close", "reset"):
            for cut in range(0, len(answer), 9):
                peer.behave = once(answer[:cut], then=then)
                assert await peer.asked("POST", b"{}") in (Lost.DISCONNECTED, Lost.TRUNCATED), cut
        peer.behave = once(answer[:-1], then="wait")
        assert await peer.asked(timeout_s=0.1) is Lost.TIMEOUT
        await peer.until_all_gone()
        await peer.good()


@on_each_loop
async def test_whoever_cannot_prove_a_name_is_told_nothing(tmp_path: Path) -> None:
    async with a_secured_peer(tmp_path, x509.DNSName("another.invalid")) as (peer, _):
        assert await peer.asked("POST", b"{}") is Lost.NOT_CONNECTED
        assert not peer.requests
    async with a_secured_peer(tmp_path, LOCALHOST) as (peer, _):
        peer.url, named = peer.url.replace("localhost", "127.0.0.1"), peer.url
        assert await peer.asked("POST", b"{}") is Lost.NOT_CONNECTED  # an address is not that name
        peer.url = named
        for trusts in (ssl.create_default_context, Authority().trusted):  # those do not know who vouches for it
            peer.client._ssl_context = trusts
            assert await peer.asked("POST", b"{}") is Lost.NOT_CONNECTED
        assert not peer.requests


@on_each_loop
async def test_a_secured_one_that_is_given_up_at_any_step_closes_no_number_of_others(tmp_path: Path) -> None:
    async with a_secured_peer(tmp_path, LOCALHOST) as (peer, _):
        await given_up_at_each_step(peer)
        await closed_at_each_step(peer)
        await peer.good()


def test_ccxts_context_verifies() -> None:
    """What the adapter gives to this client."""

    async def told() -> ssl.SSLContext:
        client = CcxtClient(CcxtConfig(account="classic"), HandClock())
        try:
            return client.ssl_context()
        finally:
            await client.close()

    context = asyncio.run(told())
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] > 50
