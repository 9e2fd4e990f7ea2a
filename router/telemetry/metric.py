"""What a metric of the catalogue is."""

from typing import Literal

import msgspec

Kind = Literal["counter", "gauge", "histogram"]

PREFIX = "warmpath_"


class Metric(msgspec.Struct, frozen=True):
    """``name`` without the prefix. ``buckets``: upper bounds of a histogram without +Inf."""

    name: str
    kind: Kind
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def full_name(self) -> str:
        return PREFIX + self.name


def counter(name: str, help_: str, *labels: str) -> Metric:
    return Metric(name, "counter", help_, labels)


def gauge(name: str, help_: str, *labels: str) -> Metric:
    return Metric(name, "gauge", help_, labels)


def histogram(name: str, help_: str, buckets: tuple[float, ...], *labels: str) -> Metric:
    return Metric(name, "histogram", help_, labels, buckets)
