"""The aiohttp application: the route table, keys, and errors in one form.

Every failure leaves here as OpenAI's error object, aiohttp's own (404, 405, 413) included. Keys
guard what computes (`/v1`, `/tokenize`, `/detokenize`, `/tokenizer_info`); health, metrics and
version stay open for probes and scrapers.
"""

from __future__ import annotations

import hmac
import logging
import uuid
from collections.abc import Awaitable, Callable

from aiohttp import web

from engine.load_report import REQUEST_HEADER, RESPONSE_HEADER, load_report
from engine.server.errors import ApiError
from engine.server.faults import reason_of
from engine.server.routes import Service, client_id, too_large

log = logging.getLogger("engine.server")

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_GUARDED = ("/v1/", "/tokenize", "/detokenize", "/tokenizer_info")
_REQUEST_ID = web.RequestKey("request_id", str)


def make_app(service: Service) -> web.Application:
    """The application over a started `AsyncEngine`."""
    app = web.Application(
        client_max_size=service.policy.max_request_bytes, middlewares=[_outermost(service)]
    )
    app.add_routes(
        [
            web.post("/v1/chat/completions", service.chat),
            web.post("/v1/completions", service.completions),
            web.get("/v1/models", service.models),
            web.get("/v1/models/{name:.+}", service.one_model),
            web.post("/tokenize", service.tokenize),
            web.post("/detokenize", service.detokenize),
            web.get("/health", service.health),
            web.get("/ping", service.health),
            web.post("/ping", service.health),
            web.get("/version", service.show_version),
            web.get("/load", service.load),
            web.get("/kv_event_sources", service.kv_event_sources),
            web.get("/metrics", service.metrics),
        ]
    )
    if service.policy.tokenizer_info:
        app.add_routes([web.get("/tokenizer_info", service.tokenizer_info)])

    async def on_prepare(request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "warmpath-engine"
        if form := request.headers.get(REQUEST_HEADER):
            report = load_report(form, service.engine.gauges())
            if report is not None:
                response.headers[RESPONSE_HEADER] = report
        if service.policy.request_id_headers:
            response.headers["X-Request-Id"] = request.get(_REQUEST_ID, "")
        if service.draining:
            response.force_close()
            response.headers["Connection"] = "close"

    app.on_response_prepare.append(on_prepare)
    return app


def _outermost(service: Service) -> Callable[..., Awaitable[web.StreamResponse]]:
    keys = [key.encode() for key in service.policy.api_keys]
    with_ids = service.policy.request_id_headers

    @web.middleware
    async def outermost(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if with_ids:
            request[_REQUEST_ID] = client_id(request) or uuid.uuid4().hex
        try:
            if keys and request.path.startswith(_GUARDED):
                _check_key(request, keys)
            return await handler(request)
        except ApiError as error:
            return _as_response(error)
        except web.HTTPException as error:
            return _as_response(_from_http(request, error, service.policy.max_request_bytes))
        except web.RequestPayloadError as error:
            return _as_response(_broken_body(error))
        except ConnectionError:
            # Nobody reads this; the status is for the access log (as nginx has it).
            return web.Response(status=499)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return _as_response(ApiError(500, "Internal error."))

    return outermost


def _check_key(request: web.Request, keys: list[bytes]) -> None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    secret = given.strip().encode(errors="surrogateescape")
    # Every key is compared, in constant time, so that timing tells nothing.
    fits = sum(hmac.compare_digest(secret, key) for key in keys)
    if scheme.lower() != "bearer" or not fits:
        raise ApiError(
            401,
            "Wrong or missing API key; send it as `Authorization: Bearer <key>`.",
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _from_http(request: web.Request, error: web.HTTPException, limit: int) -> ApiError:
    if isinstance(error, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(error.allowed_methods))
        return ApiError(
            405,
            f"{request.method} is not allowed on {request.path}; allowed: {allowed}.",
            code="method_not_allowed",
            headers={"Allow": allowed},
        )
    if isinstance(error, web.HTTPRequestEntityTooLarge):
        return too_large(limit)
    if isinstance(error, web.HTTPNotFound):
        return ApiError(404, f"There is no route {request.path}.", code="not_found")
    return ApiError(error.status, error.reason or "Error.")


def _broken_body(error: web.RequestPayloadError) -> ApiError:
    return ApiError(400, f"The body cannot be read: {reason_of(error)}.", code="invalid_body")


def _as_response(error: ApiError) -> web.Response:
    return web.Response(
        status=error.status,
        body=error.body(),
        content_type="application/json",
        headers=error.headers,
    )
