"""Where a cluster's endpoints may be looked up: one section per source.

The sections stand here, below control, because a configuration is read and checked without it;
``router.control.discovery.registry`` has the code that each of them switches on.
"""

from typing import Annotated

from router.config.section import Section, Text, doc
from router.config.units import Duration, Interval


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


class FileDiscovery(DiscoverySpec, frozen=True, kw_only=True, tag="file"):
    """A YAML or JSON file with a list of endpoints as in `endpoints`, read again when it changes.

    The file may be replaced by a rename or through a symbolic link, as ConfigMaps are.
    """

    path: Annotated[Text, doc("The file; a relative path starts at the working directory.")]
    interval: Annotated[Interval, doc("Between two looks at the file.")] = Interval(1)


SPECS = (FileDiscovery,)
"""All sources that a configuration may name."""
