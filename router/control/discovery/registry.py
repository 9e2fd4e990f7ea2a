"""All sources of endpoints. A new one is a section in ``router.config.discovery``, a file here and
a line below."""

from collections.abc import Callable
from typing import Any

from router.config.discovery import DiscoverySpec
from router.control.discovery.answer import Source
from router.control.discovery.dns import DnsSource
from router.control.discovery.file import FileSource
from router.control.discovery.kubernetes import KubernetesSource

REGISTRY: tuple[Any, ...] = (FileSource, DnsSource, KubernetesSource)

_BY_SPEC: dict[type[DiscoverySpec], Callable[[Any], Source]] = {
    source.Spec: source for source in REGISTRY
}


def source_for(spec: DiscoverySpec) -> Source:
    """The source that a section switches on."""
    return _BY_SPEC[type(spec)](spec)
