"""What reaches the page's server: only what the page itself asks for, and no more than there is room for.

Gradio's server answers to much that this page has no use for, such as fetching from other machines.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vocalsep_jax.web.storage import Storage

_ALLOWED = {
    "GET": re.compile(
        r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/robots\.txt|/(assets|static|svelte)/.+"
        r"|/login_check/?|/songs/.+"
        r"|/gradio_api/(startup-events|upload_progress|queue/data|heartbeat/\w+|login_check/?|file=.+|theme\.css)"
    ),
    "HEAD": re.compile(r"/"),
    "POST": re.compile(r"/login/?|/songs/.+|/gradio_api/(upload|queue/join|cancel|reset/?)"),
}
COOKIE = "vocalsep"
"""The cookie by which a browser is known: random, so that nobody can pass for another."""
_UPLOAD = "/gradio_api/upload"
_JOIN = "/gradio_api/queue/join"
_FILE = "/gradio_api/file="
_SMALL = 2**20
"""Bytes that a request that brings no file may have."""


class Guard:
    """ASGI middleware.

    It answers 404 to all that the page does not ask for, and to requests to separate a file that did not
    come in here (Gradio would fetch it from elsewhere); 421 to requests for hosts that this server does not
    go by (a page of another site could else have a name of its own lead here), 403 to changes asked for by
    pages of other sites, 413 to files that are too large, and 507 where there is no room for them.
    """

    def __init__(
        self, app: ASGIApp, storage: Storage, largest: int, files: int, hosts: frozenset[str] | None
    ):
        """Put it before an app.

        Args:
          app: the server.
          storage: where files that come in are kept.
          largest: bytes that a file may have; Gradio looks at each, this at their sum.
          files: how many a request may bring.
          hosts: the names that the server goes by; None for any.
        """
        self._app = app
        self._storage, self._largest, self._files, self._hosts = storage, largest, files, hosts
        self._coming = 0  # bytes that the uploads under way may bring

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if refusal:
            status, why = refusal
            await PlainTextResponse(why, status)(scope, receive, send)
        elif scope["path"] == _UPLOAD:
            await self._upload(scope, receive, send)
        elif scope["path"] == _JOIN:
            await self._join(scope, receive, send)
        elif scope["path"] == "/":
            await self._app(scope, receive, _with_cookie(scope, send))
        else:
            await self._app(scope, _bounded(receive, _SMALL), send)

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if self._hosts is not None and re.sub(r":\d+$", "", host) not in self._hosts:
            return 421, "no such host here"
        if scope["method"] == "POST":
            origin = headers.get(b"origin")
            if origin is not None and origin.partition("://")[2] != host:
                return 403, "asked for by another site"
        allowed = _ALLOWED.get(scope["method"])
        path = scope["path"]
        if allowed is None or not allowed.fullmatch(path):
            return 404, "Not Found"
        if path.startswith(_FILE) and not self._storage.holds(Path(unquote(path[len(_FILE) :]))):
            return 404, "Not Found"
        return None

    async def _join(self, scope: Scope, receive: Receive, send: Send) -> None:
        messages, receiving = [], _bounded(receive, _SMALL)
        while True:
            messages.append(await receiving())
            if not messages[-1].get("more_body"):
                break
        try:
            paths = list(_paths(json.loads(b"".join(x.get("body", b"") for x in messages))))
        except (ValueError, RecursionError):
            paths = [None]
        if all(isinstance(path, str) and self._storage.holds(Path(path)) for path in paths):
            left = iter(messages)

            async def again() -> Message:
                return next(left, None) or await receive()

            await self._app(scope, again, send)
        else:
            await PlainTextResponse("Not Found", 404)(scope, receive, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = dict(scope["headers"]).get(b"content-length", b"")
        size = int(length) if length.isdigit() else self._largest  # it may not say how large it is
        if size > self._largest * self._files:
            await PlainTextResponse("The file is too large.", 413)(scope, receive, send)
        # What has come of others counts twice; that is on the safe side.
        elif self._storage.used() + self._coming + size > self._storage.limit:
            await PlainTextResponse("There is no room for it.", 507)(scope, receive, send)
        else:
            self._coming += size
            try:
                await self._app(scope, _bounded(receive, size), send)
            finally:
                self._coming -= size


def _paths(content: Any) -> Iterator[Any]:
    """The paths of all files in what is asked for, however deep."""
    if isinstance(content, dict):
        if "path" in content:
            yield content["path"]
        content = list(content.values())
    if isinstance(content, list):
        for part in content:
            yield from _paths(part)


def _with_cookie(scope: Scope, send: Send) -> Send:
    """`send` that gives a browser its name, if it has none yet."""
    if f"{COOKIE}=".encode() in dict(scope["headers"]).get(b"cookie", b""):
        return send

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            cookie = f"{COOKIE}={secrets.token_urlsafe(16)}; HttpOnly; SameSite=Strict; Path=/"
            message["headers"] = [*message["headers"], (b"set-cookie", cookie.encode())]
        await send(message)

    return sending


def _bounded(receive: Receive, most: int) -> Receive:
    """`receive` for which the request ends, as if it were cut off, after `most` bytes."""
    count = 0

    async def receiving() -> Message:
        nonlocal count
        message = await receive()
        if message["type"] == "http.request":
            count += len(message.get("body", b""))
            if count > most:
                return {"type": "http.disconnect"}
        return message

    return receiving
