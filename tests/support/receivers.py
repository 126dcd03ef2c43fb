"""Receivers of notices on this machine: an HTTP server and an SMTP server that keep what comes, or refuse it."""

import ipaddress
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from support.served import free_port

__all__ = ["Hook", "Mailbox", "certificate", "hooked", "mailing"]


@dataclass
class Hook:
    """A web server; `answers` are the statuses of the next posts, 200 after them. `posts` are path, headers, body."""

    url: str = ""
    answers: list[int] = field(default_factory=list)
    delay: float = 0.0
    posts: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


@contextmanager
def hooked(tls: ssl.SSLContext | None = None) -> Iterator[Hook]:
    """A web server on a free port; where `delay` is set it sends one byte of its answer after each."""
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            hook.posts.append((self.path, dict(self.headers.items()), body))
            status = hook.answers.pop(0) if hook.answers else 200
            if hook.delay:
                while not hook.released.wait(hook.delay):
                    self.wfile.write(b"H")
                return
            self.send_response(status)
            self.send_header("Location", f"{hook.url}/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            raise AssertionError("a redirect was followed")

        def log_message(self, format: str, *arguments: Any) -> None:
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        server.handle_error = lambda request, address: None  # type: ignore[method-assign]  # a refused certificate
    hook.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield hook
    finally:
        hook.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Mailbox:
    """An SMTP server; `refusals` are what it answers to the next recipients. `mails` are recipients and messages."""

    port: int = 0
    refusals: list[str] = field(default_factory=list)
    mails: list[tuple[list[str], Message]] = field(default_factory=list)

    async def handle_RCPT(self, server: Any, session: Any, envelope: Any, address: str, options: list[str]) -> str:
        if self.refusals:
            return self.refusals.pop(0)
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        self.mails.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=default)))
        return "250 accepted"


@contextmanager
def mailing(tls: ssl.SSLContext | None = None, *, starttls: bool = False, password: str = "") -> Iterator[Mailbox]:
    """An SMTP server on a free port: in clear, in TLS, or with STARTTLS; with a `password` for the user amber."""
    box = Mailbox(port=free_port())

    def known(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"amber", password.encode()), handled=False)

    words: dict[str, Any] = {}
    if password:  # aiosmtpd counts STARTTLS alone as TLS
        words = {"authenticator": known, "auth_required": starttls, "auth_require_tls": starttls}
    if starttls:
        words |= {"tls_context": tls, "require_starttls": True}
    controller = Controller(box, hostname="127.0.0.1", port=box.port, ssl_context=None if starttls else tls, **words)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def certificate(folder: Path, host: str = "127.0.0.1") -> tuple[ssl.SSLContext, Path]:
    """A server's TLS with a certificate for an address of this machine, signed by itself; and the file to trust."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([])
    now = datetime.now(UTC)
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(host))])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1)).add_extension(names, critical=True)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem, secret = folder / "certificate.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, secret)
    return context, pem
