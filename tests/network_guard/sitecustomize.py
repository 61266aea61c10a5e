"""Lets this Python, and every Python that it starts, reach this machine alone.

On PYTHONPATH Python imports this file when it starts; tests/conftest.py puts it there and installs
the same guard in the process of the tests. What was tried is also written to a file, so that a
test fails even if the code under test swallows the error.
"""

import os
import sys

LOG = "IDBENCH_TEST_NETWORK_LOG"
# Event of Python's socket module -> where among its arguments the address or the host is.
_EVENTS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
}
# A process of Ray asks them which cloud it is in, and no setting stops it. They are refused as all
# others, but that is no fault of a test.
_ASKED_BY_RAY = ("169.254.169.254", "metadata.google.internal")


def outside(address: object) -> bool:
    """Whether an address, or the host of one, is another machine's."""
    if isinstance(address, tuple):
        address = address[0]
    if isinstance(address, bytes):
        address = address.decode("utf-8", "replace")
    if not isinstance(address, str):  # None is this machine; a number is a netlink socket's
        return False
    host = address.partition("%")[0].lower()
    if host in ("", "localhost", "::1", "::", "0.0.0.0") or host.startswith(("/", "\0", "127.")):
        return False
    return not (host.startswith("::ffff:127.") or own(host))


def own(host: str) -> bool:
    """Whether an address is one of this machine's: only to such a one can a socket be bound."""
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if not host.replace(".", "").isdigit() and family == socket.AF_INET:
        return False  # a name
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError:
        return False
    return True


def guard(event: str, arguments: tuple[object, ...]) -> None:
    """Refuses what would leave the machine; for `sys.addaudithook`."""
    place = _EVENTS.get(event)
    if place is None or not outside(arguments[place]):
        return
    import socket

    first = arguments[0]
    if isinstance(first, socket.socket) and first.family == getattr(socket, "AF_UNIX", None):
        return
    log = os.environ.get(LOG)
    if log and arguments[place] not in _ASKED_BY_RAY:
        with open(log, "a", encoding="utf-8") as stream:  # noqa: PTH123 - without pathlib: cheap
            stream.write(f"{event} {arguments[place]!r}\n")
    raise PermissionError(f"tests may not use the network: {event} {arguments[place]!r}")


def install() -> None:
    """Sets the guard up, once per process."""
    if not getattr(sys, "_idbench_network_guard", False):
        sys._idbench_network_guard = True  # type: ignore[attr-defined]
        sys.addaudithook(guard)


if os.environ.get(LOG):
    install()
