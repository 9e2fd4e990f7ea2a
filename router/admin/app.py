"""The admin API as a web application, and the smaller one for scrapers."""

from aiohttp import web

from router.admin.access import guard
from router.admin.chat import ChatViews
from router.admin.explain import Describe, ExplainViews
from router.admin.pages import ui_routes
from router.admin.views_clusters import ClusterViews
from router.admin.views_config import ConfigViews
from router.admin.views_events import EventViews
from router.admin.views_limits import LimitViews
from router.admin.views_process import ProcessViews
from router.control.plane import ControlPlane

MAX_BODY = 8 * 1024 * 1024


def admin_app(plane: ControlPlane, describe: Describe) -> web.Application:
    """All of the API and the page.

    Args:
        describe: reads a request out of words, as the data plane would.
    """
    guarded = guard(lambda: plane.store.config.admin, plane.journal.add)
    app = web.Application(middlewares=[guarded], client_max_size=MAX_BODY)
    app.add_routes(ProcessViews(plane).routes())
    app.add_routes(ClusterViews(plane).routes())
    app.add_routes(ConfigViews(plane).routes())
    app.add_routes(LimitViews(plane).routes())
    app.add_routes(EventViews(plane).routes())
    app.add_routes(ExplainViews(plane, describe).routes())
    chat = ChatViews(plane)
    app.add_routes(chat.routes())
    app.cleanup_ctx.append(chat.session)
    app.add_routes(ui_routes())
    return app


def health_app(plane: ControlPlane) -> web.Application:
    """``/metrics``, ``/livez`` and ``/readyz`` alone: nothing in it may be kept secret."""
    app = web.Application(client_max_size=1024)
    app.add_routes(ProcessViews(plane).health_routes())
    return app
