"""Filters of the balancer ``scored``: one file each, and one line here.

A filter's ``Spec`` is its YAML (a tagged union, tag field ``type``) and builds the filter.
"""

from typing import TYPE_CHECKING, Union

from router.core.filters.base import FilterSpec
from router.core.filters.prefix_affinity import PrefixAffinity

REGISTRY = (PrefixAffinity,)
"""Every filter that a configuration can name."""

if TYPE_CHECKING:
    AnyFilter = FilterSpec
else:
    AnyFilter = Union[tuple(one.Spec for one in REGISTRY)]  # noqa: UP007
