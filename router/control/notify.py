"""Tell the service manager how far we are, as sd_notify does: one datagram, no library."""

import os
import socket


def notify(state: str) -> bool:
    """Send e.g. ``READY=1``, ``STOPPING=1`` to systemd; False if nobody asked for it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # Linux's abstract namespace
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.sendto(state.encode(), address)
    except OSError:
        return False
    return True
