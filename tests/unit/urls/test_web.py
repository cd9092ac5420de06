"""Fetching from the web, where it is switched on, goes where the config allows and tells nothing about the rest."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from workbench.errors import InvalidRequestError, UnsupportedContentError
from workbench.urls import web as web_module
from workbench.urls.web import WebClient

FIELD = "messages[0].content[0].image"
LOOPBACK = (ip_network("127.0.0.0/8"),)
PATIENCE_S = 100.0
"""A machine may pause; only what must time out has less."""


class Site:
    """A web server on loopback; what it answers is set by path."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.stopped = threading.Event()
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers["Host"]))
                if self.path.startswith("/drip"):
                    site.drip(self)
                    return
                status, headers, body = site.answers.get(self.path, (404, {}, b""))
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that hangs up is no news."""

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = int(self.server.server_port)
        self.host = f"127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01})
        self.thread.start()

    def drip(self, handler: Any) -> None:
        """One byte at a time and never an end: in the headers, or in the body."""
        if handler.path == "/drip-body":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        try:
            while not self.stopped.wait(0.01):
                handler.wfile.write(b"x")
        except OSError:
            pass
        handler.close_connection = True

    def close(self) -> None:
        self.stopped.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Give names addresses; the list that comes back grows by each look-up."""

    def resolve(**addresses: str | list[str]) -> list[str]:
        looked_up: list[str] = []
        real = socket.getaddrinfo

        def getaddrinfo(host: str, port: int, *more: Any, **options: Any) -> Any:
            name = host.replace(".", "_")
            if name not in addresses:
                return real(host, port, *more, **options)
            looked_up.append(host)
            found = addresses[name]
            each = [found] if isinstance(found, str) else found
            family = {4: socket.AF_INET, 6: socket.AF_INET6}
            return [
                (family[ip_address(one.partition("%")[0]).version], socket.SOCK_STREAM, 6, "", (one, port))
                for one in each
            ]

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
        return looked_up

    return resolve


def refusal(web: WebClient, url: str, max_bytes: int = 1000) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        web.fetch(url, FIELD, max_bytes)
    error = caught.value
    assert error.field == FIELD
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None, "a cause would tell what the message does not"
    return str(error)


def test_a_listed_host_is_fetched_from(site: Site) -> None:
    site.answers["/a.png?size=2"] = (200, {}, b"body")
    web = WebClient(frozenset({site.host}), LOOPBACK, PATIENCE_S)
    assert web.fetch(f"http://{site.host}/a.png?size=2", FIELD, 1000).data == b"body"
    assert site.asked == [("/a.png?size=2", site.host)]


@pytest.mark.parametrize(
    "url",
    [
        "http://other.example/a.png",
        "http://images.example.evil.example/a.png",
        "http://evil.example/?images.example",
        "http://images.example@evil.example/",
        "http://user:secret@images.example/",
        "http://images.example:81/a.png",
        "https://images.example:80/a.png",
        "http://evil.example\\@images.example/",
        "http://images.example /a.png",
        "http://images.example\t/a.png",
        "http://images.example/a.png\r\nHost: x",
        "http://ımages.example/",
        "http:///a.png",
        "http:images.example/a.png",
        "http://",
        "http://images.example:x/",
        "http://[::1/",
        "http://127.0.0.1/",
        "ftp://images.example/",
        "file:///etc/passwd",
    ],
)
def test_no_other_host_port_or_form_is_even_looked_up(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("looked up"))
    for web in (WebClient(frozenset({"images.example"})), WebClient(frozenset())):
        assert "a URL of a host listed as image_hosts in the run config" in refusal(web, url)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:8.8.8.8",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:0:808:808::f5ff:fffe",
    ],
)
def test_an_address_that_is_not_public_is_refused_and_not_named(address: str, names: Any) -> None:
    names(images_example=address)
    said = refusal(WebClient(frozenset({"images.example"})), "http://images.example/a.png")
    assert "listed as image_hosts" in said
    assert address.partition("%")[0] not in said.replace("images.example", "")


def test_one_address_that_is_not_public_among_others_is_enough_to_refuse(names: Any) -> None:
    names(images_example=["93.184.216.34", "127.0.0.1"])
    assert "image_hosts" in refusal(WebClient(frozenset({"images.example"})), "http://images.example/")


def test_a_name_is_looked_up_once_and_the_connection_goes_where_the_check_looked(site: Site, names: Any) -> None:
    looked_up = names(images_example="127.0.0.1")
    site.answers["/a.png"] = (200, {}, b"body")
    web = WebClient(frozenset({f"images.example:{site.port}"}), LOOPBACK, PATIENCE_S)
    assert web.fetch(f"http://Images.Example.:{site.port}/a.png", FIELD, 1000).data == b"body"
    assert looked_up == ["images.example"]
    assert site.asked == [("/a.png", f"images.example:{site.port}")]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_followed_where_a_request_might_have_gone_itself(site: Site, status: int) -> None:
    site.answers["/a"] = (status, {"Location": "/b"}, b"")
    site.answers["/b"] = (200, {}, b"there")
    assert (
        WebClient(frozenset({site.host}), LOOPBACK, PATIENCE_S).fetch(f"http://{site.host}/a", FIELD, 1000).data
        == b"there"
    )


@pytest.mark.parametrize(
    "location",
    ["http://169.254.169.254/latest", "http://127.0.0.1:1/", "http://localhost/", "file:///etc/passwd", "//evil/", ""],
)
def test_a_redirect_elsewhere_is_refused_and_its_target_not_named(site: Site, location: str) -> None:
    site.answers["/a"] = (302, {"Location": location}, b"")
    said = refusal(WebClient(frozenset({site.host}), LOOPBACK, PATIENCE_S), f"http://{site.host}/a")
    assert "listed as image_hosts" in said
    assert "169.254" not in said
    assert site.asked == [("/a", site.host)]


def test_a_redirect_to_a_name_that_has_become_private_is_refused(site: Site, names: Any) -> None:
    names(inner_example="10.0.0.7")
    site.answers["/a"] = (302, {"Location": "http://inner.example/"}, b"")
    web = WebClient(frozenset({site.host, "inner.example"}), LOOPBACK, PATIENCE_S)
    assert "10.0.0.7" not in refusal(web, f"http://{site.host}/a")


def test_no_redirect_leads_from_https_to_http() -> None:
    with pytest.raises(web_module._RefusedError):
        web_module._redirect_target("https://images.example/a", "http://images.example/b")
    assert web_module._redirect_target("https://images.example/a", "/b") == "https://images.example/b"


def test_redirects_in_a_circle_end(site: Site) -> None:
    site.answers["/a"] = (302, {"Location": "/a"}, b"")
    assert "redirects at most 3 times" in refusal(
        WebClient(frozenset({site.host}), LOOPBACK, PATIENCE_S), f"http://{site.host}/a"
    )
    assert len(site.asked) == 4


def test_of_a_large_body_no_more_than_the_limit_is_read(site: Site) -> None:
    site.answers["/a"] = (200, {}, bytes(10**6))
    body = WebClient(frozenset({site.host}), LOOPBACK, PATIENCE_S).fetch(f"http://{site.host}/a", FIELD, 1000).data
    assert len(body) == 1001, "one more, by which the caller sees that it was too much"


@pytest.mark.parametrize("path", ["/drip-head", "/drip-body"])
def test_a_server_that_drips_is_cut_off(site: Site, path: str) -> None:
    web = WebClient(frozenset({site.host}), LOOPBACK, timeout_s=0.3)
    started = time.monotonic()
    assert "that can be fetched" in refusal(web, f"http://{site.host}{path}", max_bytes=10**6)
    assert time.monotonic() - started < 60, "it never ends by itself"


def test_whatever_fails_is_told_in_the_same_words(site: Site, names: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        closed_port = unused.getsockname()[1]
    site.answers["/broken"] = (200, {"Content-Length": "x"}, b"")
    hosts = frozenset({site.host, f"127.0.0.1:{closed_port}", "nowhere.invalid"})

    def no_such_name(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(-2, "Name or service not known")

    web = WebClient(hosts, LOOPBACK, PATIENCE_S)
    said = [refusal(web, url) for url in (f"http://{site.host}/missing", f"http://127.0.0.1:{closed_port}/")]
    said.append(refusal(web, f"https://{site.host}/"))  # no TLS there
    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    said.append(refusal(web, "http://nowhere.invalid/"))
    assert {one.partition("; got")[0] for one in said} == {f"{FIELD} must be a URL that can be fetched"}


def test_a_certificate_must_be_of_the_name_that_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection goes to an address, and the certificate is still compared with the name."""
    asked: list[str] = []

    class Context:
        def wrap_socket(self, sock: socket.socket, *, server_hostname: str, do_handshake_on_connect: bool) -> Any:
            asked.append(server_hostname)
            raise ssl.SSLCertVerificationError

    monkeypatch.setattr(ssl, "create_default_context", Context)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        web = WebClient(frozenset({f"localhost:{port}"}), (*LOOPBACK, ip_network("::1/128")))
        with pytest.raises(InvalidRequestError):
            web.fetch(f"https://localhost:{port}/", FIELD, 1000)
    assert asked in (["localhost"], []), "no host of IPv6 alone listens here"


def test_off_means_off_even_for_a_listed_network() -> None:
    with pytest.raises(UnsupportedContentError):
        WebClient(frozenset(), LOOPBACK).fetch("http://127.0.0.1/", FIELD, 10)
