"""``GET /events``: what happens to the router, as server-sent events."""

import msgspec
from aiohttp import web

from router.admin.respond import SAFE_HEADERS, AdminError
from router.control.journal import HISTORY, KINDS, Event, Follower, TooManyFollowers
from router.control.plane import ControlPlane

HEARTBEAT = 15.0
"""Seconds without an event after which a comment is sent, so that proxies keep the stream."""
RETRY = 2000
"""Milliseconds that a client is asked to wait before it comes again."""


class EventViews:
    """Handler of ``/events``."""

    def __init__(self, plane: ControlPlane, heartbeat: float = HEARTBEAT) -> None:
        self._journal = plane.journal
        self._heartbeat = heartbeat

    def routes(self) -> list[web.RouteDef]:
        return [web.get("/events", self.events)]

    async def events(self, request: web.Request) -> web.StreamResponse:
        kinds = _kinds(request)
        past, missed = self._past(request)
        try:
            follower = self._journal.follow()
        except TooManyFollowers as error:
            raise AdminError(429, str(error), code="too_many_followers") from None
        try:
            return await self._stream(request, follower, past, missed, kinds)
        finally:
            self._journal.leave(follower)

    def _past(self, request: web.Request) -> tuple[list[Event], bool]:
        """What is told at once, and whether more than that happened."""
        id_ = request.headers.get("Last-Event-ID") or request.query.get("after")
        if id_:
            return self._journal.since(id_)
        given = request.query.get("last", "0")
        if not (given.isascii() and given.isdigit()) or int(given) > HISTORY:
            raise AdminError(
                400, f"last must be a number from 0 to {HISTORY}, not {given!r}", param="last"
            )
        return self._journal.last(int(given)), False

    async def _stream(
        self,
        request: web.Request,
        follower: Follower,
        past: list[Event],
        missed: bool,
        kinds: frozenset[str],
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers=dict(SAFE_HEADERS) | {"content-type": "text/event-stream"}
        )
        await response.prepare(request)
        beginning = f"retry: {RETRY}\n\n".encode()
        if missed:
            beginning += _notice("missed", "some events before these are kept no longer")
        await response.write(beginning + b"".join(_written(e) for e in past if e.kind in kinds))
        while request.query.get("follow") != "no":
            event = await follower.next(self._heartbeat)
            if event is not None:
                if event.kind in kinds:
                    await response.write(_written(event))
            elif follower.lost:
                await response.write(
                    _notice("dropped", "you read too slowly; resume from your last event")
                )
                return response
            else:
                await response.write(b": still here\n\n")
        return response


def _kinds(request: web.Request) -> frozenset[str]:
    given = request.query.get("kinds")
    if not given:
        return frozenset(KINDS)
    wanted = frozenset(given.split(","))
    if unknown := sorted(wanted - KINDS.keys()):
        raise AdminError(
            400, f"unknown kind {unknown[0]!r}; known are {', '.join(KINDS)}", param="kinds"
        )
    return wanted


def _written(event: Event) -> bytes:
    body = {"at": round(event.at, 3), "kind": event.kind} | event.fields
    data = msgspec.json.encode(body)
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (event.id.encode(), event.kind.encode(), data)


def _notice(name: str, text: str) -> bytes:
    """Something about the stream itself; it has no id, so that resuming is not affected."""
    return b"event: %b\ndata: %b\n\n" % (name.encode(), msgspec.json.encode({"message": text}))
