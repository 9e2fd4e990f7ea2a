"""The version of the installed distribution, and whether its hot path is compiled."""

from importlib import metadata

from router.core import exchange

VERSION = metadata.version("warmpath")

COMPILED = not exchange.__file__.endswith(".py")
"""The data plane is machine code (see setup.py), not interpreted."""
