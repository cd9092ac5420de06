"""HTTP server that answers as Qdrant's, with the client's own embedded store behind it.

Bodies are read by the models of the client, so that a request of another form is refused. It takes one API key, and
wants an index for each field that a request filters by.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pydantic import BaseModel, TypeAdapter
from qdrant_client import QdrantClient, models

API_KEY = "qdrant-secret"
DONE = {"operation_id": 0, "status": "completed"}


class QdrantServer:
    """Collections of one server."""

    def __init__(self) -> None:
        self.store = QdrantClient(":memory:", force_disable_check_same_thread=True)
        self.failing = ""
        """End of the paths that are answered with an error."""
        self._lock = threading.Lock()
        self._indexed: dict[str, set[str]] = {}

    def answer(self, method: str, path: str, body: Any) -> Any:
        """Return the result of a request; raise LookupError for a route that it lacks."""
        with self._lock:
            if self.failing and path.endswith(self.failing):
                raise RuntimeError(f"disk full; your key is {API_KEY}")
            _, _, collection, *rest = path.split("/")
            match method, rest:
                case "GET", ["exists"]:
                    return {"exists": self.store.collection_exists(collection)}
                case "GET", []:
                    return self.store.get_collection(collection).model_dump(mode="json")
                case "PUT", []:
                    created = models.CreateCollection.model_validate(body)
                    return self.store.create_collection(collection, vectors_config=created.vectors)
                case "DELETE", []:
                    return self.store.delete_collection(collection)
                case "PUT", ["index"]:
                    self._indexed.setdefault(collection, set()).add(models.CreateFieldIndex(**body).field_name)
                    return DONE
                case _, ["points", *action]:
                    return self._points(collection, action, body)
        raise LookupError(path)

    def _points(self, collection: str, action: list[str], body: Any) -> Any:
        if missing := set(_filtered(body)) - self._indexed.get(collection, set()):
            raise RuntimeError(f"index required for {missing}")
        match action:
            case []:
                self.store.upsert(collection, models.PointsList.model_validate(body).points)
            case ["delete"]:
                self.store.delete(collection, TypeAdapter[Any](models.PointsSelector).validate_python(body))
            case ["batch"]:
                operations = models.UpdateOperations.model_validate(body).operations
                self.store.batch_update_points(collection, operations)
                return [DONE] * len(operations)
            case ["scroll"]:
                asked = models.ScrollRequest.model_validate(body)
                given = asked.model_dump(exclude={"filter", "order_by", "shard_key", "with_vector"}, exclude_none=True)
                records, offset = self.store.scroll(collection, scroll_filter=asked.filter, **given)
                return {"points": [record.model_dump(mode="json") for record in records], "next_page_offset": offset}
            case ["query"]:
                wanted = models.QueryRequest.model_validate(body)
                assert wanted.params is not None
                assert wanted.params.exact
                shown: Any = wanted.with_payload
                found = self.store.query_points(
                    collection,
                    query=wanted.query,
                    query_filter=wanted.filter,
                    limit=wanted.limit or 10,
                    with_payload=shown,
                )
                return found.model_dump(mode="json")
            case _:
                raise LookupError(action)
        return DONE


def _filtered(body: Any) -> Iterator[str]:
    """Yield the fields that the conditions in a body are about."""
    if isinstance(body, dict):
        if "key" in body and ("match" in body or "range" in body):
            yield body["key"]
        for value in body.values():
            yield from _filtered(value)
    if isinstance(body, list):
        for value in body:
            yield from _filtered(value)


@contextmanager
def qdrant_server() -> Iterator[tuple[str, QdrantServer]]:
    """Yield the URL of a server and the server."""
    server = QdrantServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", 0)))
            status, answer = self._answer(json.loads(body) if body else None)
            encoded = json.dumps(answer, default=_plain).encode()
            with suppress(ConnectionError):  # the client has left
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

        def _answer(self, body: Any) -> tuple[int, Any]:
            if self.headers.get("api-key") != API_KEY:
                return 401, {"status": {"error": f"{self.headers.get('api-key')} is no API key"}}
            try:
                result = server.answer(self.command, self.path.partition("?")[0], body)
            except (AssertionError, LookupError, RuntimeError, ValueError) as error:
                return 500, {"status": {"error": f"{type(error).__name__}: {error}"}}
            return 200, {"result": result, "status": "ok", "time": 0.0}

        do_GET = do_PUT = do_POST = do_DELETE = _respond  # noqa: N815

        def handle(self) -> None:
            with suppress(ConnectionError):
                super().handle()

        def log_message(self, *_: Any) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", server
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
        server.store.close()


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    raise TypeError(type(value))
