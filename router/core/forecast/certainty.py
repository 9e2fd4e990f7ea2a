"""What engines say of their caches, entered in what is thought of them."""

from router.core.engine_cache.news import CacheNews
from router.core.forecast.forecast import Forecast
from router.core.forecast.notes import unpack
from router.core.model import EndpointId
from router.core.prefix.blocks import BLOCK


def heed(forecast: Forecast, news: CacheNews) -> None:
    """A cache has changed, or what is known of it."""
    id_ = EndpointId(news.endpoint)
    if news.cleared:
        forecast.emptied(id_)
    if not news.exact:
        forecast.doubt(id_)
        return
    mirror, page = forecast.mirror, forecast.of(id_).page
    if news.lost:
        mirror.lose(page, unpack(news.lost))
    if news.held:
        mirror.assure(page, unpack(news.held))
    mirror.stored(page, news.stored * forecast.bytes_per_token / BLOCK)
    if news.size:
        forecast.told_size(id_, news.size)
