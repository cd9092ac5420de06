from __future__ import annotations

import httpx
import pytest

from tests.fakes.http_server import HEADERS, TOKEN, Served, serving
from tests.fakes.serving import FakeModels
from workbench.server import LOOPBACK, Access

EVERY_METHOD = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")


def paths(served: Served) -> list[str]:
    description = served.client().get("/openapi.json").json()
    return [*description["paths"], "/openapi.json", "/docs", "/", "/not/there", "/docs/oauth2-redirect", "/redoc"]


def test_no_route_answers_without_the_token(served: Served) -> None:
    stranger = served.client(headers={})
    for path in paths(served):
        for method in EVERY_METHOD:
            response = stranger.request(method, path)
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "given",
    [
        f"Basic {TOKEN}",
        TOKEN,
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer {TOKEN.upper()}",
        "Bearer \xff",
    ],
)
def test_a_wrong_token_is_as_good_as_none(served: Served, given: str) -> None:
    assert served.client(headers={"Authorization": given.encode("latin-1")}).get("/health").status_code == 401


def test_a_second_token_beside_the_right_one_is_refused(served: Served) -> None:
    both = httpx.Headers([("Authorization", f"Bearer {TOKEN}"), ("Authorization", "Bearer another")])
    assert served.client(headers=both).get("/health").status_code == 401


def test_the_page_alone_takes_the_token_from_its_address(served: Served) -> None:
    stranger = served.client(headers={})
    assert stranger.get("/docs", params={"token": TOKEN}).status_code == 200
    assert stranger.get("/docs", params={"token": "another"}).status_code == 401
    assert stranger.get("/health", params={"token": TOKEN}).status_code == 401
    assert stranger.get("/openapi.json", params={"token": TOKEN}).status_code == 401


def test_the_page_fetches_nothing_and_tells_nobody_its_address(served: Served) -> None:
    page = served.client().get("/docs")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert "<script src" not in page.text
    assert "<link" not in page.text
    assert TOKEN not in page.text


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8321", "127.0.0.1.evil.example", "localhost.evil.example", "[::2]", "", ":80"],
)
def test_a_foreign_host_is_refused_even_with_the_token(served: Served, host: str) -> None:
    for path in ("/health", "/docs", "/not/there"):
        assert served.client(headers=HEADERS | {"Host": host}).get(path).status_code == 403


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST:9", "[::1]:8321"])
def test_loopback_has_several_names_and_may_be_forwarded_from_another_port(served: Served, host: str) -> None:
    assert served.client(headers=HEADERS | {"Host": host}).get("/health").status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "https://localhost.evil.example", "null", "file://", ""])
def test_a_foreign_origin_is_refused_and_never_reflected(served: Served, origin: str) -> None:
    response = served.client(headers=HEADERS | {"Origin": origin}).get("/health")
    assert response.status_code == 403
    assert not [name for name in response.headers if name.startswith("access-control-")]


def test_a_page_of_the_server_itself_may_ask(served: Served) -> None:
    assert served.client(headers=HEADERS | {"Origin": served.url}).get("/health").status_code == 200


def test_a_configured_origin_may_ask_and_a_configured_host_be_called(fake_models: FakeModels) -> None:
    fake_models.add("random")
    access = Access(TOKEN, LOOPBACK | {"models.example"}, frozenset({"https://lab.example"}))
    with serving(fake_models.config, access) as served:
        page = served.client(headers=HEADERS | {"Origin": "https://lab.example", "Host": "models.example:80"})
        response = page.get("/health")
        assert response.status_code == 200
        assert response.headers["access-control-allow-origin"] == "https://lab.example"
        assert "access-control-allow-credentials" not in response.headers
        asked_before = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        preflight = served.client(headers={"Origin": "https://lab.example"} | asked_before).options("/health")
        assert preflight.status_code == 200
        assert served.client(headers=HEADERS | {"Origin": "https://other.example"}).get("/health").status_code == 403


def test_without_a_token_the_other_checks_stay(fake_models: FakeModels) -> None:
    fake_models.add("random")
    with serving(fake_models.config, Access(None)) as served:
        assert served.client(headers={}).get("/health").status_code == 200
        assert served.client(headers={"Host": "evil.example"}).get("/health").status_code == 403
