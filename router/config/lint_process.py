"""Lint rules about the process: what is exposed, what is bounded, what is told."""

from collections.abc import Iterator

from router.config.findings import Problem
from router.config.references import loopback
from router.config.schema import Config


def admin_in_the_open(config: Config) -> Iterator[Problem]:
    admin = config.admin
    if admin is not None and admin.tls is None and not loopback(admin.address):
        yield Problem(
            ("admin", "address"),
            f"the admin API on {admin.address} can be reached from elsewhere, and its "
            "token is sent in the clear",
        )


def decision_in_the_open(config: Config) -> Iterator[Problem]:
    if config.limits.expose_decision and _public(config):
        yield Problem(
            ("limits", "expose_decision"),
            "every client is told the addresses of the endpoints",
        )


def endless_clients(config: Config) -> Iterator[Problem]:
    timeouts = config.limits.timeouts
    for name in ("head", "body"):
        if not getattr(timeouts, name) and _public(config):
            yield Problem(
                ("limits", "timeouts", name),
                f"a client that never ends its {name} keeps a connection forever",
            )


def buffer_beyond_bound(config: Config) -> Iterator[Problem]:
    limits = config.limits
    if limits.max_buffered < limits.buffer_body:
        yield Problem(
            ("limits", "max_buffered"),
            f"max_buffered ({limits.max_buffered}) is less than what one body may take "
            f"({limits.buffer_body})",
        )


def nobody_is_told(config: Config) -> Iterator[Problem]:
    if config.access_log.path == "off" and config.admin is None and config.metrics is None:
        yield Problem(
            ("access_log", "path"),
            "no access log, no metrics, no admin API: nothing tells what the router does",
        )


def _public(config: Config) -> bool:
    return any(not loopback(listener.address) for listener in config.listeners)
