"""The page that documents the admin API names exactly the calls that there are."""

import re

from router.admin.app import admin_app
from router.control.journal import Journal
from router.control.plane import ControlPlane
from router.proxy.describe import describe


def test_every_call_is_documented_and_exists(root):
    plane = ControlPlane.__new__(ControlPlane)  # handlers are bound, none is called
    plane.journal = Journal()
    app = admin_app(plane, describe)
    served = {
        (route.method, route.resource.canonical)
        for route in app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    pages = {(method, path) for method, path in served if path.startswith("/ui/")}
    text = (root / "docs" / "admin-api.md").read_text()
    documented = set(re.findall(r"`(GET|POST|PATCH|DELETE) (/[^`?]*)`", text))
    assert documented - pages == served - pages
    assert ("GET", "/ui/") in documented & pages
