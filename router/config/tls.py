"""Transport security in the configuration file: of listeners, of the admin API, towards engines.

Certificates and keys are files, read by control when the configuration is loaded and again when
they change; a set that does not load leaves the last good one in use.
"""

from typing import Annotated, Literal

import msgspec

from router.config.section import Section, Text, doc

HostPattern = Annotated[
    str, msgspec.Meta(pattern=r"^(\*\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$", max_length=253)
]
Version = Literal["TLSv1.2", "TLSv1.3"]


class SniCertificate(Section, frozen=True, kw_only=True):
    """A certificate for clients that ask for one of these names (SNI)."""

    names: Annotated[
        tuple[HostPattern, ...],
        doc("Host names; `*.example.org` stands for one label more.", single=True, min_length=1),
    ]
    cert: Annotated[Text, doc("PEM file: the certificate, then its intermediates.")]
    key: Annotated[Text, doc("PEM file: its private key, without a passphrase.")]


class ServerTls(Section, frozen=True, kw_only=True):
    """TLS of a listener; HTTP/1.1 is negotiated (ALPN)."""

    cert: Annotated[Text, doc("PEM file: the certificate, then its intermediates.")]
    key: Annotated[Text, doc("PEM file: its private key, without a passphrase.")]
    sni: Annotated[
        tuple[SniCertificate, ...],
        doc("Further certificates by the name that a client asks for.", max_length=1000),
    ] = ()
    client_ca: Annotated[
        Text | None,
        doc("PEM file: who must have signed the certificates of clients (mTLS)."),
    ] = None
    require_client_cert: Annotated[
        bool, doc("With client_ca: refuse clients without a certificate at the handshake.")
    ] = True
    min_version: Annotated[Version, doc("Older protocols are refused.")] = "TLSv1.2"


class UpstreamTls(Section, frozen=True, kw_only=True):
    """TLS towards the engines of a cluster, for requests, health checks, scrapes, model lists."""

    ca: Annotated[
        Text | None,
        doc(
            "PEM file: who must have signed the engines' certificates; else the "
            "system's authorities."
        ),
    ] = None
    cert: Annotated[Text | None, doc("PEM file: our certificate, for engines that ask.")] = None
    key: Annotated[Text | None, doc("PEM file: its private key.")] = None
    server_name: Annotated[
        HostPattern | None,
        doc("The name to ask for and to verify, where it is not the endpoint's host."),
    ] = None
    verify: Annotated[
        bool, doc("false: whoever answers is taken for the engine. For trials alone.")
    ] = True
    min_version: Annotated[Version, doc("Older protocols are refused.")] = "TLSv1.2"
