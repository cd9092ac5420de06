"""Documents as text: what is read, from where, and what is refused by the name of the field."""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from workbench.errors import InvalidRequestError
from workbench.protocol import URL, ImageMedia, MemoryBankDocument
from workbench.providers.memory.documents import DocumentSources, document_text
from workbench.urls.web import Fetched, WebClient

CONTENT, MIME = "documents[0].content", "documents[0].mime_type"
LIMIT = 20_000_000


def read(content: Any, mime_type: str | None = None, limit: int = LIMIT, **sources: Any) -> str:
    document = MemoryBankDocument(document_id="d", content=content, mime_type=mime_type)
    return document_text(document, "documents[0]", DocumentSources(**sources), limit)


def refusal(field: str, content: Any, mime_type: str | None = None, limit: int = LIMIT, **sources: Any) -> str:
    with pytest.raises(InvalidRequestError) as caught:
        read(content, mime_type, limit, **sources)
    assert caught.value.field == field
    return str(caught.value)


def data_url(data: bytes, media_type: str = "text/plain") -> URL:
    return URL(uri=f"data:{media_type};base64,{base64.b64encode(data).decode()}")


def pdf(text: str, *, encrypted: bool = False) -> bytes:
    """A page that shows a text, in the least that makes a PDF."""
    shown = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> /MediaBox [0 0 9 9] >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(shown), shown),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    whole, places = bytearray(b"%PDF-1.4\n"), []
    for number, content in enumerate(objects, start=1):
        places.append(len(whole))
        whole += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(whole)
    whole += b"xref\n0 6\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    lock = b" /Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O (%s) /U (%s) >> /ID [(a) (a)]" % (b"o" * 32, b"u" * 32)
    whole += b"trailer << /Size 6 /Root 1 0 R%s >>\nstartxref\n%d\n%%%%EOF" % (lock if encrypted else b"", table)
    return bytes(whole)


@pytest.mark.parametrize("mime_type", [None, "text/plain", "text/markdown", "application/json", "text/x-python; a=b"])
def test_text_stays_as_it_is(mime_type: str | None) -> None:
    text = '# Title\n\n{"a": [1, 2]}\r\n  <b>end</b>  '
    assert read(text, mime_type) == text
    assert read(data_url(text.encode()), mime_type) == text
    assert read(["two", "parts"], mime_type) == "two parts"


@given(text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")))
def test_any_text_in_a_data_url_is_read(text: str) -> None:
    assert read(data_url(text.encode())) == text


@pytest.mark.parametrize(
    "uri,text",
    [
        ("data:,a%20b", "a b"),
        ("data:text/plain,h%C3%A9", "hé"),
        ("DATA:text/plain;charset=latin-1;base64,6Q==", "é"),
        ("data:text/plain;charset=utf-16;base64,//5hAA==", "a"),
        ("data:text/html,<p>a<script>b</script>", "a"),
        ("data:;base64,77u/YQ==", "a"),
        ("data:application/ld+json,{}", "{}"),
    ],
)
def test_data_urls_say_their_type_and_encoding(uri: str, text: str) -> None:
    assert read(URL(uri=uri)) == text


def test_a_pages_own_encoding_is_used() -> None:
    page = '<meta charset="latin-1"><p>caf\xe9'.encode("latin-1")
    assert read(data_url(page, "text/html")) == "café"


def test_a_pdf_is_read_as_its_text() -> None:
    assert read(data_url(pdf("Hello from a page"), "application/pdf")) == "Hello from a page"


@pytest.mark.parametrize("data", [b"", b"%PDF-1.4 nothing", pdf("x")[:120], bytes(range(256))])
def test_a_damaged_pdf_is_refused(data: bytes) -> None:
    assert "a PDF that can be read" in refusal(CONTENT, data_url(data, "application/pdf"))


def test_an_encrypted_pdf_is_refused() -> None:
    assert "a PDF" in refusal(CONTENT, data_url(pdf("x", encrypted=True), "application/pdf"))


def test_without_pypdf_a_pdf_is_refused_by_the_name_of_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    assert "inference-workbench[pdf]" in refusal(CONTENT, data_url(pdf("x"), "application/pdf"))


@pytest.mark.parametrize(
    "field,content,mime_type,words",
    [
        (CONTENT, "a\0b", None, "without NUL"),
        (CONTENT, URL(uri="data:text/plain;base64,AAEC"), None, "without NUL"),
        (CONTENT, URL(uri="data:text/plain;base64,/9j/4A=="), None, "text in utf-8"),
        (CONTENT, URL(uri="data:text/plain;charset=klingon,a"), None, "known encoding"),
        (CONTENT, URL(uri="data:text/plain;charset=rot13,a"), None, "known encoding"),
        (CONTENT, URL(uri="data:text/plain;base64,a"), None, "padded base64"),
        (CONTENT, URL(uri="data:text/plain"), None, "of the form"),
        (CONTENT, URL(uri="data:nonsense,a"), None, "a media type such as"),
        (CONTENT, URL(uri="ftp://host/a.txt"), None, "text or a data: URL"),
        (CONTENT, URL(uri=""), None, "text or a data: URL"),
        (CONTENT, URL(uri="file:///etc/passwd"), None, "switched off"),
        (CONTENT, URL(uri="http://localhost/"), None, "switched off"),
        (CONTENT, ImageMedia(image=URL(uri="data:image/png;base64,AA==")), None, "no images"),
        (CONTENT, ["a", ImageMedia(image=Image.new("RGB", (1, 1)))], None, "no images"),
        (CONTENT, "half a \ud800 pair", None, "valid Unicode"),
        (MIME, URL(uri="data:image/png;base64,AA=="), None, "text/"),
        (MIME, URL(uri="data:application/zip;base64,AA=="), None, "application/json"),
        (MIME, "text", "application/pdf", "need a URL"),
        (MIME, "text", "image/png", "need a URL"),
        (MIME, "text", "nonsense", "a media type"),
        (MIME, "text", "text/plain\n", "a media type"),
        (MIME, "text", "", "a media type"),
    ],
)
def test_other_documents_are_refused_by_the_field(field: str, content: Any, mime_type: str | None, words: str) -> None:
    assert words in refusal(field, content, mime_type)


@pytest.mark.parametrize("content", ["a" * 1000, data_url(b"a" * 1000), data_url(b"a" * 999), URL(uri="data:,aaa")])
def test_documents_up_to_the_limit_are_read(content: Any) -> None:
    assert set(read(content, limit=1000)) == {"a"}


@pytest.mark.parametrize("content", ["é" * 600, data_url(b"a" * 1001), URL(uri="data:," + "a" * 3010)])
def test_documents_beyond_the_limit_are_refused(content: Any) -> None:
    assert "at most 0.001 MB" in refusal(CONTENT, content, limit=1000)


def test_files_are_read_under_the_root_alone(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "page.html").write_text("<p>shown</p><style>not</style>")
    (tmp_path / "secret.txt").write_text("secret")
    (root / "door.txt").symlink_to(tmp_path / "secret.txt")
    assert read(URL(uri=f"file://{root}/page.html"), root=root) == "shown"
    for outside in (tmp_path / "secret.txt", root / "door.txt", root / ".." / "secret.txt", "/etc/passwd"):
        assert "document_root" in refusal(CONTENT, URL(uri=f"file://{outside}"), root=root)
    (root / "big.txt").write_bytes(b"a" * 1001)
    assert "a document of at most" in refusal(CONTENT, URL(uri=f"file://{root}/big.txt"), limit=1000, root=root)
    (root / "packed.txt.gz").write_bytes(b"")
    assert "not compressed" in refusal(CONTENT, URL(uri=f"file://{root}/packed.txt.gz"), root=root)


@dataclass(frozen=True)
class Page(WebClient):
    """The web, with one page."""

    page: Fetched | None = None

    def fetch(self, url: str, field: str, max_bytes: int) -> Fetched:
        assert self.page is not None
        return self.page


@pytest.mark.parametrize(
    "page,text",
    [
        (Fetched(b"<b>a", "text/html; charset=utf-8"), "a"),
        (Fetched(b"\xe9", 'text/plain; charset="latin-1"'), "é"),
        (Fetched(b"<b>a"), "a"),
    ],
)
def test_a_page_of_the_web_is_read_by_the_type_that_its_server_or_name_says(page: Fetched, text: str) -> None:
    assert read(URL(uri="https://host/page.html?x=1"), web=Page(frozenset({"host"}), page=page)) == text


def test_the_type_that_the_caller_names_comes_first() -> None:
    assert read(data_url(b"<b>a</b>", "text/html"), "text/plain") == "<b>a</b>"


def test_hosts_that_are_not_listed_are_refused_by_the_name_of_the_setting() -> None:
    web = WebClient(frozenset({"docs.example"}), setting="document_hosts")
    assert "listed as document_hosts" in refusal(CONTENT, URL(uri="https://other.example/"), web=web)
