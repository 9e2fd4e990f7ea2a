"""Where a cluster's endpoints may be looked up: one section per source.

The sections stand here, below control, because a configuration is read and checked without it;
``router.control.discovery.registry`` has the code that each of them switches on.
"""

import importlib.util
import ipaddress
from collections.abc import Iterator
from typing import Annotated, Literal

import msgspec

from router.config.section import Section, Text, doc
from router.config.units import Address, Duration, Interval

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]
HostName = Annotated[
    str, msgspec.Meta(pattern=r"^[A-Za-z0-9_]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9_.])?$")
]
KubernetesName = Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$")]
ServerUrl = Annotated[str, msgspec.Meta(pattern=r"^https?://[!-~]{1,1000}$")]


class DiscoverySpec(Section, frozen=True, kw_only=True, tag_field="type"):
    """What all sources have in common."""

    empty_after: Annotated[
        Duration,
        doc(
            "A cluster that had endpoints keeps them until its source has said for so long, "
            "without a failure in between, that there are none."
        ),
    ] = Duration(60)
    max_endpoints: Annotated[
        int, doc("More are left out, those not known yet first.", ge=1, le=10_000)
    ] = 1000

    def faults(self) -> Iterator[tuple[str, str]]:
        """What the types cannot say is wrong: the field at fault, and a message."""
        yield from ()


class FileDiscovery(DiscoverySpec, frozen=True, kw_only=True, tag="file"):
    """A YAML or JSON file with a list of endpoints as in `endpoints`, read again when it changes.

    The file may be replaced by a rename or through a symbolic link, as ConfigMaps are.
    """

    path: Annotated[Text, doc("The file; a relative path starts at the working directory.")]
    interval: Annotated[Interval, doc("Between two looks at the file.")] = Interval(1)


class DnsDiscovery(DiscoverySpec, frozen=True, kw_only=True, tag="dns"):
    """Addresses, or services with their ports, from DNS; needs the extra `dns`.

    The name is complete: no search domain is added to it.
    """

    name: Annotated[HostName, doc("What to look up.")]
    record: Annotated[
        Literal["A", "AAAA", "SRV"],
        doc("SRV records bring ports, weights and priorities; only the best priority is used."),
    ] = "A"
    port: Annotated[Port | None, doc("The engines' port; not for SRV.")] = None
    min_ttl: Annotated[
        Interval, doc("Looked up again when the records expire, but not before.")
    ] = Interval(5)
    max_ttl: Annotated[Interval, doc("Looked up again after so long at the latest.")] = Interval(60)
    resolver: Annotated[Address | None, doc("The name server; the system's if not given.")] = None

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.record == "SRV" and self.port is not None:
            yield "port", "SRV records bring their ports: leave it out"
        if self.record != "SRV" and self.port is None:
            yield "record", f"with {self.record} records a port is needed (port: 8000)"
        if self.min_ttl > self.max_ttl:
            yield "min_ttl", f"must not be longer than max_ttl ({self.max_ttl})"
        if self.resolver is not None and not (self.resolver.port and _numeric(self.resolver)):
            yield "resolver", f"a name server is an IP address and a port, not {self.resolver}"
        if importlib.util.find_spec("aiodns") is None:
            yield "type", "needs the package aiodns: pip install 'warmpath[dns]'"


class KubernetesDiscovery(DiscoverySpec, frozen=True, kw_only=True, tag="kubernetes"):
    """The pods behind a Kubernetes service, from its EndpointSlices.

    Endpoints have the labels `zone`, `node` and `pod`. In a pod the service account is used, which
    needs `list` and `watch` of `endpointslices` in `discovery.k8s.io`; elsewhere give `server`.
    """

    service: Annotated[KubernetesName, doc("The service's name.")]
    namespace: Annotated[
        KubernetesName | None, doc("Its namespace; the router's own if not given.")
    ] = None
    port: Annotated[
        Port | KubernetesName | None,
        doc("Name or number of the pods' port; not needed where there is one only."),
    ] = None
    region: Annotated[
        str,
        doc("The region of all endpoints; EndpointSlices tell zones only."),
        msgspec.Meta(pattern=r"^[^/*\s]{0,63}$"),
    ] = ""
    server: Annotated[
        ServerUrl | None,
        doc("The API server; that of the cluster the router runs in if not given."),
    ] = None
    token_file: Annotated[
        Text | None, doc("File with a bearer token, read for each request; not for http://.")
    ] = None
    ca_file: Annotated[
        Text | None, doc("Certificates that the API server's must be signed by.")
    ] = None
    watch_timeout: Annotated[
        Interval, doc("A watch is begun anew after so long; a dead one is noticed 15s later.")
    ] = Interval(60)

    def faults(self) -> Iterator[tuple[str, str]]:
        if self.server is not None and self.namespace is None:
            yield "server", "outside a cluster a namespace is needed too"
        if self.token_file is not None and (self.server or "").startswith("http://"):
            yield "token_file", "a token is not sent without TLS: the server must be https://"
        if self.watch_timeout < 1:
            yield "watch_timeout", "must be at least 1s"


def _numeric(address: Address) -> bool:
    try:
        ipaddress.ip_address(address.host)
    except ValueError:
        return False
    return True


SPECS = (FileDiscovery, DnsDiscovery, KubernetesDiscovery)
"""All sources that a configuration may name."""
