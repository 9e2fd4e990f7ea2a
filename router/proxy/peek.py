"""What routing needs to know of a body, without reading all of it and without changing a byte.

Small bodies are decoded into a partial struct, which also tells whether they are JSON at all.
Above ``WHOLE`` a bounded look at both ends suffices in practice (see ``scan``); only if that does
not find the model is everything decoded.

``prefix_hash`` is XXH3-64 over the model and the raw bytes of the messages up to and including
the first user message: a client that sends the history with each turn sends these bytes again,
and another conversation differs in them.
"""

import re
from typing import Final

import msgspec
import xxhash

from router.core import errors
from router.core.model import LlmRequest
from router.proxy import forms, one_model, prompt, scan
from router.proxy.door import Visit
from router.proxy.fields import (
    PlainFields,
    PromptFields,
    RequestFields,
    decode,
    decode_items,
    decode_plain,
    decode_prompt,
)
from router.proxy.headers import RequestHead
from router.proxy.paths import Body
from router.proxy.seen import NOTHING, Peek

WHOLE: Final = 16 * 1024
"""Bodies up to this size are decoded (1.5 us at 8 KB); above, 20 us per 100 KB is too much."""

WINDOW: Final = 8 * 1024
"""Bytes of one message that enter the hash."""

PROMPT_WINDOW: Final = 256
"""Bytes of a plain prompt that enter the hash: prompts have no turns to tell the prefix by."""

MAX_MESSAGES: Final = 16
"""Messages that are looked through for the first of a user."""

MAX_MESSAGE: Final = 1024 * 1024
"""Bytes of one message that are skipped to get to the next."""

FRONT: Final = 64 * 1024
"""First bytes of a body in pieces that are looked at before all is joined."""

_QUOTE: Final = 0x22
_decode_plain: Final = decode_plain
_USUAL: Final = (b'"role":"user"', b'"role": "user"')
_USER: Final = re.compile(rb'"role"[ \t\r\n]*:[ \t\r\n]*"user"')
# Where in a message its role is looked for: in front of its content or behind it.
_ROLE_REACH: Final = 64


def described(head: RequestHead, seen: Peek, visit: Visit, body_bytes: int) -> LlmRequest:
    """What the core is told of a request."""
    who = visit.identity
    return LlmRequest(
        id=head.request_id.decode("ascii"),
        method=head.verb,
        path=head.path,
        headers=head.fields,
        authority=head.host,
        client=visit.client,
        model=seen.model,
        stream=seen.stream,
        max_tokens=seen.max_tokens,
        user=seen.user,
        prefix_hash=seen.prefix_hash,
        # Where a body is routed before it has all come its length is known even so.
        body_bytes=head.length or body_bytes,
        target=head.target,
        tenant=who.tenant,
        priority=who.priority,
        permitted=who.models,
        scheme=visit.door.scheme,
        checkpoints=seen.checkpoints,
        prompt_bytes=seen.prompt_bytes,
    )


def peek(
    pieces: list[bytes],
    size: int,
    kind: Body,
    head: RequestHead,
    aliases: prompt.Aliases | None = None,
    conversation: bool = True,
    exact: bool = False,
) -> Peek:
    """Look at a whole body.

    Args:
        pieces: the body as it was read; joined only if there is no other way.
        size: of all pieces.
        aliases: what models are called too; given, the prompt is named as well.
        conversation: whether anybody reads ``prefix_hash``, a third of the work on a small body.
        exact: whoever sent it may use certain models only: nothing is passed over that may be
            another model's name.

    Raises:
        ClientError: the path takes JSON and this is none, or ``model`` is not a string.
    """
    if exact:
        pieces = [b"".join(pieces)] if pieces else pieces
        one_model.require(b"".join(pieces), head.content_type)
    if aliases is not None and pieces and pieces[0][:1] in b"{ \t\r\n":
        try:
            return _with_prompt(pieces, size, aliases, exact)
        except prompt.NOT_JSON:
            pass  # whether that matters is for the look at all bodies to say
    return _look(pieces, size, kind, head, conversation, exact)


def _look(
    pieces: list[bytes],
    size: int,
    kind: Body,
    head: RequestHead,
    conversation: bool,
    exact: bool,
) -> Peek:
    if kind is not Body.JSON:
        content_type = head.content_type
        if content_type[:19].lower() == b"multipart/form-data":
            return Peek(model=forms.field(b"".join(pieces), content_type, b"model"))
        if kind is not Body.FORM and (not pieces or pieces[0][:1] != b"{"):
            return NOTHING
    body = pieces[0] if len(pieces) == 1 else b""
    try:
        if size > WHOLE and not exact:
            seen = _from_ends(scan.beginning(pieces, FRONT), scan.ending(pieces), size)
            if seen is not None:
                return seen
        body = body or b"".join(pieces)
        try:
            if conversation:
                request = decode(body)
                return _from_request(request, _hash_request(request))
            return _from_request(_decode_plain(body), None)
        except msgspec.ValidationError:
            return _leniently(body, kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        if kind is Body.JSON:
            raise _no_json(error, size, head) from None
        return NOTHING
    except RecursionError:
        if kind is Body.JSON:
            raise errors.BadRequest("the body's JSON is nested too deeply") from None
        return NOTHING


def _no_json(error: Exception, size: int, head: RequestHead) -> errors.RouterError:
    if not size:
        return errors.BadRequest("the body is empty: it must be a JSON object")
    coding = next((value for name, value in head.fields if name == b"content-encoding"), b"")
    if coding.strip().lower() not in (b"", b"identity"):
        return errors.UnsupportedCoding(
            f"bodies are taken uncompressed, not with Content-Encoding {coding.decode('latin-1')}",
            param="content-encoding",
        )
    told = str(error).partition(" - at `")[0]
    return errors.BadRequest(f"the body is not valid JSON: {told}")


def _from_ends(body: bytes, ending: bytes, size: int) -> Peek | None:
    """A peek out of the first and the last bytes; None if they do not tell enough."""
    found = scan.both_ends(body, ending)
    if found.model is None:
        return None
    try:
        return _from_scan(body, found, len(body) == size)
    except (scan.OutOfReach, scan.TooDense):
        return None


def _from_request(request: PlainFields, prefix_hash: int | None) -> Peek:
    return Peek(request.model, request.stream is True, _limit(request), request.user, prefix_hash)


def _with_prompt(pieces: list[bytes], size: int, aliases: prompt.Aliases, exact: bool) -> Peek:
    """A peek that names the prompt.

    Raises:
        msgspec.DecodeError: the body is not JSON, or not of the types expected.
    """
    found = None if exact or size <= prompt.DECODED else prompt.bulk_between(pieces, size)
    if found is not None:
        try:
            return _named(*found, aliases)
        except (scan.OutOfReach, scan.TooDense):
            pass
    fields = decode_prompt(pieces[0] if len(pieces) == 1 else b"".join(pieces))
    return _named(fields, prompt.decoded_bulk(fields), aliases)


def _named(fields: PromptFields, bulk: prompt.Bulk | None, aliases: prompt.Aliases) -> Peek:
    return Peek(
        fields.model,
        fields.stream is True,
        _limit(fields),
        fields.user,
        None if bulk is None else _hash_bulk(fields, bulk),
        *prompt.named(fields, bulk, aliases),
    )


def _limit(request: PlainFields) -> int | None:
    limit = request.max_completion_tokens
    if limit is None:
        limit = request.max_tokens if request.max_tokens is not None else request.max_output_tokens
    return limit


def _leniently(body: bytes, kind: Body) -> Peek:
    """JSON, but not of the types expected: what is odd is the engine's to refuse, save a model."""
    fields = msgspec.json.decode(body)
    if not isinstance(fields, dict):
        if kind is Body.JSON:
            raise errors.BadRequest("the body must be a JSON object")
        return NOTHING
    model = fields.get("model")
    if model is not None and not isinstance(model, str):
        if kind is Body.JSON:
            raise errors.BadRequest("`model` must be a string", param="model")
        model = None
    return from_fields(model, fields, None)


def from_fields(model: str | None, fields: dict[str, object], prefix_hash: int | None) -> Peek:
    """A peek out of decoded fields, leaving out those of odd types."""
    limits = (fields.get(n) for n in ("max_completion_tokens", "max_tokens", "max_output_tokens"))
    limit = next((n for n in limits if isinstance(n, int) and not isinstance(n, bool)), None)
    user = fields.get("user")
    return Peek(
        model,
        fields.get("stream") is True,
        limit,
        user if isinstance(user, str) else None,
        prefix_hash,
    )


def front(
    body: bytes, kind: Body, head: RequestHead, aliases: prompt.Aliases | None = None
) -> Peek | None:
    """Look at the beginning of a body too large to be kept; None if it does not name the model.

    Args:
        aliases: as for ``peek``.
    """
    content_type = head.content_type
    if content_type[:19].lower() == b"multipart/form-data":
        model = forms.field(body, content_type, b"model")
        return None if model is None else Peek(model=model)
    if kind is Body.ANY and body[:1] != b"{":
        return NOTHING
    try:
        found = scan.front(body)
        if found.model is None:
            return None
        seen = _from_scan(body, found, False)
    except (msgspec.DecodeError, scan.OutOfReach, scan.TooDense):
        return None  # not JSON, or only to be known when all of it is there
    if aliases is not None:
        try:
            begun = prompt.front_bulk(body, head.length)
        except prompt.NOT_JSON:
            begun = None
        if begun is not None:
            names = prompt.named(*begun, aliases)
            return seen.with_prompt(*names)
    return seen


def _from_scan(body: bytes, found: scan.Found, whole: bool) -> Peek:
    parts: list[bytes] = []
    starts = found.starts
    lead = None
    if (start := starts.get("messages")) is not None:
        parts = _first_items(body, start, whole)
        lead = starts.get("system")
    elif (start := starts.get("prompt")) is not None:
        parts = [_window(body, start, PROMPT_WINDOW, whole)]
    elif (start := starts.get("input")) is not None:
        if body[start : start + 1] == b"[":
            parts = _first_items(body, start, whole)
        else:
            parts = [_window(body, start, PROMPT_WINDOW, whole)]
        lead = starts.get("instructions")
    if parts and lead is not None:
        parts.insert(0, _window(body, lead, WINDOW, whole))
    return from_fields(found.model, found.fields, _digest(found.model, parts) if parts else None)


def _window(body: bytes, start: int, size: int, whole: bool) -> bytes:
    """The value at ``start``, at most ``size`` bytes of it."""
    if not whole and start + size > len(body):
        raise scan.OutOfReach
    stop = scan.skip_value(body, start, min(len(body), start + size))
    return body[start : start + size if stop is None else stop]


# --- the prefix -------------------------------------------------------------------------------


def _hash_request(request: RequestFields) -> int | None:
    parts: list[bytes] = []
    lead = b""
    if request.messages is not None:
        parts = _first_messages(request.messages)
        lead = bytes(request.system)
    elif text := bytes(request.prompt):
        parts = [text[:PROMPT_WINDOW]]
    elif given := bytes(request.input):
        if given[:1] == b"[":
            parts = _first_messages(decode_items(given))
        else:
            parts = [given[:PROMPT_WINDOW]]
        lead = bytes(request.instructions)
    if parts and lead:
        parts.insert(0, lead[:WINDOW])
    return _digest(request.model, parts) if parts else None


def _hash_bulk(fields: PromptFields, bulk: prompt.Bulk) -> int | None:
    """As ``_hash_request``.

    Raises:
        OutOfReach: it cannot be told from what there is of the bulk.
        TooDense: the same.
    """
    name, text, start = bulk.name, bulk.text, bulk.start
    lead = b""
    if name == "prompt" or (name == "input" and text[start] == _QUOTE):
        parts = [text[start : start + PROMPT_WINDOW]]
    elif text[start] == _QUOTE:
        return None  # messages are a list
    else:
        parts = _first_turns(bulk)
    if name == "messages":
        lead = bytes(fields.system)
    elif name == "input":
        lead = bytes(fields.instructions)
    if parts and lead:
        parts.insert(0, lead[:WINDOW])
    return _digest(fields.model, parts) if parts else None


def _first_turns(bulk: prompt.Bulk) -> list[bytes]:
    """As ``_first_messages``."""
    if not bulk.whole:
        return _first_items(bulk.text, bulk.start, False)
    if len(bulk.text) > WHOLE:
        try:
            return _first_items(bulk.text, 0, True)
        except scan.TooDense:
            pass  # decoding is quicker than looking
    return _first_messages(decode_items(bulk.text))


def _first_messages(messages: list[msgspec.Raw]) -> list[bytes]:
    parts: list[bytes] = []
    for item in messages[:MAX_MESSAGES]:
        message = bytes(item)
        size = len(message)
        parts.append(message if size <= WINDOW else message[:WINDOW])
        if _users(message, 0, _ROLE_REACH) or _users(message, max(0, size - _ROLE_REACH), size):
            break
    return parts


def _first_items(body: bytes, start: int, whole: bool) -> list[bytes]:
    """As ``_first_messages``, of the array at ``start``."""
    parts: list[bytes] = []
    position = scan.next_item(body, start)
    while position is not None and len(parts) < MAX_MESSAGES:
        first = _window(body, position, WINDOW, whole)
        parts.append(first)
        if _users(first, 0, _ROLE_REACH):
            break  # where a long message ends need not be known if no other follows
        stop = position + len(first)
        if len(first) == WINDOW:
            end = scan.skip_value(body, position, min(len(body), position + MAX_MESSAGE))
            if end is None and not whole:
                raise scan.OutOfReach
            if end is None:
                break
            stop = end
        if _users(body, max(position, stop - _ROLE_REACH), stop):
            break
        position = scan.next_item(body, stop)
    return parts


def _users(data: bytes, start: int, end: int) -> bool:
    """Whether a message's role is said to be the user's between ``start`` and ``end``."""
    # The search costs five times as much; most messages are somebody else's or spelt like this.
    if data.find(b'"user"', start, end) < 0:
        return False
    for spelling in _USUAL:
        if data.find(spelling, start, end) >= 0:
            return True
    return _USER.search(data, start, end) is not None


def _digest(model: str | None, parts: list[bytes]) -> int:
    return xxhash.xxh3_64_intdigest(b"\0".join(((model or "").encode(), *parts)))
