"""The static page: files of the ``ui`` folder, read once, at ``/`` and under ``/ui/``."""

from collections.abc import Awaitable, Callable, Mapping
from importlib import resources

from aiohttp import web

_TYPES: Mapping[str, str] = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".ico": "image/x-icon",
    ".json": "application/json",
    ".woff2": "font/woff2",
    ".txt": "text/plain",
    ".md": "text/plain",
}
INDEX = "index.html"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def ui_routes() -> list[web.RouteDef]:
    """Routes for the page's files; ``/`` leads to ``/ui/``, where their relative links hold."""
    files = _files()
    routes = [web.get(f"/ui/{name}", _serve(name, body)) for name, body in files.items()]
    if INDEX in files:
        routes += [web.get("/ui/", _serve(INDEX, files[INDEX])), web.get("/", _to_page)]
    return routes


def _files() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    folder = resources.files("router.admin").joinpath("ui")
    pending = [("", folder)]
    while pending:
        prefix, place = pending.pop()
        if not place.is_dir():
            continue
        for item in place.iterdir():
            name = f"{prefix}{item.name}"
            if item.is_dir():
                pending.append((f"{name}/", item))
            elif _suffix(name) in _TYPES:
                found[name] = item.read_bytes()
    return found


def _suffix(name: str) -> str:
    return "." + name.rpartition(".")[2]


def _serve(name: str, body: bytes) -> Handler:
    content_type = _TYPES[_suffix(name)]
    charset = None if content_type.startswith(("image", "font")) else "utf-8"

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=body, content_type=content_type, charset=charset)

    return handler


async def _to_page(request: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "/ui/"})
