"""From a listener's section to what the core knows of it."""

from typing import TYPE_CHECKING

from router.config.access import default_mode
from router.core.access.addresses import AddressRules, ForwardedRules, Networks
from router.core.listener import ListenerPolicy

if TYPE_CHECKING:
    from router.config.schema import Config, Listener


def build_listener(spec: "Listener", config: "Config") -> ListenerPolicy:
    forwarded = None
    if spec.trusted_hops or spec.trusted_proxies:
        forwarded = ForwardedRules(spec.trusted_hops, Networks(spec.trusted_proxies))
    return ListenerPolicy(
        name=spec.name,
        auth=spec.auth if spec.auth is not None else default_mode(config.tenants, config.auth),
        tls=spec.tls is not None,
        addresses=address_rules(spec.allow, spec.deny),
        forwarded=forwarded,
    )


def address_rules(allow: tuple[str, ...], deny: tuple[str, ...]) -> AddressRules | None:
    """None where everybody may connect."""
    return AddressRules(Networks(allow), Networks(deny)) if allow or deny else None
