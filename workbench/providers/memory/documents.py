"""Plain text of documents: of texts, JSON, Markdown, HTML and PDF, given in the request or by URL.

Documents come from the same kinds of sources as images: ``data:`` URLs always, files under a root and listed hosts of
the web only if the run config says so.
"""

from __future__ import annotations

import base64
import binascii
import io
import mimetypes
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import unquote_to_bytes, urlsplit

from workbench.errors import InvalidRequestError, UnsupportedContentError
from workbench.prompts.texts import valid_unicode
from workbench.protocol import URL, ImageMedia
from workbench.providers.memory.html import visible_text
from workbench.urls.sources import UrlSources
from workbench.urls.web import Fetched

if TYPE_CHECKING:
    from workbench.protocol import InterleavedTextMedia, MemoryBankDocument

ACCEPTED = "text/*, application/json, application/xhtml+xml, application/xml, application/yaml, application/pdf"
"""Media types of documents, as in an HTTP ``Accept`` header."""

_TEXT_TYPES = frozenset({"application/json", "application/xml", "application/yaml", "application/x-yaml"})
_HTML_TYPES = frozenset({"text/html", "application/xhtml+xml"})
_PDF = "application/pdf"
_DEFAULT = "text/plain"
_MEDIA_TYPE = re.compile(r" *(?P<type>[\w.+-]+/[\w.+-]+) *(?P<parameters>;[^\x00-\x1f]*)?", re.ASCII)
_CHARSET = re.compile(r";\s*charset\s*=\s*\"?(?P<name>[\w.:+-]+)", re.ASCII | re.IGNORECASE)
_META_CHARSET = re.compile(rb"<meta[^>]+charset\s*=\s*[\"']?(?P<name>[\w.:+-]+)", re.IGNORECASE)
_DATA_URL = re.compile(r"data:(?P<type>[^,]*?)(?P<base64>;base64)?,(?P<data>.*)", re.ASCII | re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class DocumentSources(UrlSources):
    """Allowed sources of documents besides texts and ``data:`` URLs."""

    noun: ClassVar[str] = "a document"
    example: ClassVar[str] = "name.txt"
    setting: ClassVar[str] = "document_root"
    always: ClassVar[str] = "text or a data: URL"


@dataclass(frozen=True, slots=True)
class MediaType:
    """Media type of a document, in lower case, and the encoding of its bytes."""

    name: str
    charset: str | None = None


def document_text(document: MemoryBankDocument, field: str, sources: DocumentSources, max_bytes: int) -> str:
    """Return the text of a document; blocks while a URL is read.

    Args:
        field: path of the document in the request.
        max_bytes: limit of its bytes, and of the text in them.

    Raises:
        InvalidRequestError: the document is too large, damaged or binary, or its URL cannot be read.
        UnsupportedContentError: its source or its media type is not supported.
    """
    named = None if document.mime_type is None else _media_type(document.mime_type, f"{field}.mime_type")
    if isinstance(document.content, URL):
        text = _text_of_url(document.content.uri, named, field, sources, max_bytes)
    else:
        text = _text_of_text(joined_text(document.content, f"{field}.content"), named, field, max_bytes)
    if "\0" in text:
        raise InvalidRequestError(f"{field}.content", "binary data", "text without NUL characters")
    valid_unicode(text, f"{field}.content")
    sources.check_size(len(text.encode()), f"{field}.content", max_bytes)
    return text


def joined_text(content: InterleavedTextMedia, field: str) -> str:
    """Return a content's texts, joined with spaces; raise `UnsupportedContentError` for an image."""
    parts = content if isinstance(content, list) else [content]
    texts = []
    for part in parts:
        if isinstance(part, ImageMedia):
            raise UnsupportedContentError(field, "an image", "text: memory banks hold no images")
        if not isinstance(part, str):
            raise InvalidRequestError(field, part, "a text, or a list of texts")
        texts.append(part)
    return valid_unicode(" ".join(texts), field)


def _text_of_text(text: str, named: MediaType | None, field: str, max_bytes: int) -> str:
    DocumentSources.check_size(len(text), f"{field}.content", max_bytes)
    media_type = named or MediaType(_DEFAULT)
    if media_type.name in _HTML_TYPES:
        return visible_text(text)
    if not _is_text(media_type.name):
        allowed = f"{_supported()} for content that is given as text; other documents need a URL"
        raise UnsupportedContentError(f"{field}.mime_type", media_type.name, allowed)
    return text


def _text_of_url(uri: str, named: MediaType | None, field: str, sources: DocumentSources, max_bytes: int) -> str:
    path = f"{field}.content"
    is_data = uri[:5].lower() == "data:"
    fetched = _data_of(uri, path, max_bytes) if is_data else sources.read(uri, path, max_bytes)
    media_type = named or _declared_type(fetched, uri, path)
    if media_type.name == _PDF:
        return _pdf_text(fetched.data, path)
    if media_type.name in _HTML_TYPES:
        return visible_text(_decoded(fetched.data, media_type, path, is_html=True))
    if not _is_text(media_type.name):
        raise UnsupportedContentError(f"{field}.mime_type", media_type.name, f"{_supported()} or {_PDF}")
    return _decoded(fetched.data, media_type, path)


def _data_of(uri: str, field: str, max_bytes: int) -> Fetched:
    match = _DATA_URL.fullmatch(uri)
    if match is None:
        raise InvalidRequestError(field, uri, "a data: URL of the form data:text/plain;base64,...")
    least = len(match["data"]) * 3 // 4 - 2 if match["base64"] else len(match["data"]) // 3
    DocumentSources.check_size(least, field, max_bytes)
    data = unquote_to_bytes(match["data"])
    if match["base64"]:
        try:
            data = base64.b64decode(data, validate=True)
        except binascii.Error:
            raise InvalidRequestError(field, uri, "a data: URL with complete, padded base64") from None
    DocumentSources.check_size(len(data), field, max_bytes)
    return Fetched(data, match["type"] or None)


def _declared_type(fetched: Fetched, uri: str, field: str) -> MediaType:
    """Return the type that the server or the ``data:`` URL says, else that of the file name, else plain text."""
    if fetched.content_type is not None:
        return _media_type(fetched.content_type, field)
    guessed, encoding = (None, None) if uri[:5].lower() == "data:" else mimetypes.guess_type(urlsplit(uri).path)
    if encoding is not None:
        raise UnsupportedContentError(field, uri, "a document that is not compressed")
    return MediaType(guessed or _DEFAULT)


def _media_type(text: str, field: str) -> MediaType:
    match = _MEDIA_TYPE.fullmatch(text)
    if match is None:
        raise InvalidRequestError(field, text, "a media type such as text/plain")
    charset = _CHARSET.search(match["parameters"] or "")
    return MediaType(match["type"].lower(), charset["name"] if charset else None)


def _is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type in _TEXT_TYPES or media_type.endswith(("+json", "+xml"))


def _supported() -> str:
    return "text/*, application/json, application/xml, application/yaml"


def _decoded(data: bytes, media_type: MediaType, field: str, *, is_html: bool = False) -> str:
    charset = media_type.charset
    if charset is None and is_html and (declared := _META_CHARSET.search(data[:1024])):
        charset = declared["name"].decode()
    charset = charset or "utf-8"
    try:
        return data.decode("utf-8-sig" if charset.lower() in {"utf-8", "utf8"} else charset)
    except LookupError:
        raise UnsupportedContentError(field, f"charset {charset}", "text in a known encoding, such as utf-8") from None
    except UnicodeError:
        allowed = f"text in {charset}; name another encoding in mime_type, as text/plain; charset=latin-1"
        raise InvalidRequestError(field, "bytes that are no text", allowed) from None


def _pdf_text(data: bytes, field: str) -> str:
    try:
        import pypdf
    except ImportError:
        install = "text: reading PDF needs the package pypdf; pip install 'inference-workbench[pdf]'"
        raise UnsupportedContentError(field, "a PDF", install) from None
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        is_encrypted = reader.is_encrypted
        text = "" if is_encrypted else "\n\n".join(page.extract_text() for page in reader.pages)
    except Exception as error:  # noqa: BLE001 - a parser that is fed damaged bytes raises anything
        raise InvalidRequestError(field, "a damaged PDF", f"a PDF that can be read ({type(error).__name__})") from None
    if is_encrypted:
        raise InvalidRequestError(field, "an encrypted PDF", "a PDF without a password")
    return text
