"""A certificate authority for tests: makes certificates in memory."""

import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from router.config.tls_material import PairPem, ServerPem, UpstreamPem

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


class Authority:
    """Issues certificates for host names, addresses and URIs.

    Attributes:
        pem: its own certificate.
    """

    def __init__(self, name: str = "test authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.pem = certificate.public_bytes(serialization.Encoding.PEM)

    def issue(self, *names: str, common_name: str = "") -> PairPem:
        """A certificate; without names it has the common name alone."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name or names[0][:60])])
        builder = _builder(subject, self._name, key.public_key())
        if names:
            alternative = x509.SubjectAlternativeName([_general(name) for name in names])
            builder = builder.add_extension(alternative, critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        return PairPem(
            certificate.public_bytes(serialization.Encoding.PEM),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )

    def files(self, folder: Path, name: str, *names: str, common_name: str = "") -> tuple[str, str]:
        """A certificate and its key as files."""
        pair = self.issue(*names, common_name=common_name)
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        cert.write_bytes(pair.cert)
        key.write_bytes(pair.key)
        return str(cert), str(key)

    def trusting(self, own: PairPem | None = None, *, alpn: str = "http/1.1") -> ssl.SSLContext:
        """A client's context that trusts this authority and shows ``own``."""
        context = ssl.create_default_context(cadata=self.pem.decode())
        context.set_alpn_protocols([alpn])
        if own is not None:
            from router.config.tls_material import load_pair

            load_pair(context, own)
        return context

    def server(self, *pairs: PairPem, client_ca: bool = False, required: bool = True) -> ServerPem:
        """What a listener needs, asking for certificates of this authority if ``client_ca``."""
        return ServerPem(
            pairs=pairs,
            client_ca=self.pem if client_ca else None,
            require_client_cert=required,
        )

    def upstream(self, own: PairPem | None = None) -> UpstreamPem:
        """What a connection to engines with certificates of this authority needs."""
        return UpstreamPem(ca=self.pem, pair=own)


def _builder(subject: x509.Name, issuer: x509.Name, key: object) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)  # type: ignore[arg-type]
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
    )


def _general(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
