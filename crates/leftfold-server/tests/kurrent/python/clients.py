"""What the scripts share: a client, and the parts of a script as functions."""

import os
import sys
import time
from uuid import uuid4

from kurrentdbclient import KurrentDBClient, NewEvent, StreamState

ANY, NONE, EXISTS = StreamState.ANY, StreamState.NO_STREAM, StreamState.EXISTS


def address():
    return sys.argv[2]


def connect():
    return KurrentDBClient(f"kurrentdb://{address()}?tls=false")


def name(prefix="order"):
    """A stream that nobody else has."""
    return f"{prefix}-{uuid4()}"


def event(kind="OrderPlaced", data=b"{}", **more):
    return NewEvent(type=kind, data=data, **more)


def events(count):
    return [event(data=b'{"number": %d}' % number) for number in range(count)]


def raises(error, call, *arguments, **named):
    try:
        found = call(*arguments, **named)
    except error as raised:
        return raised
    raise AssertionError(f"{error} was expected, not {found!r}")


def run(parts):
    """Runs all checks of a script, or the function that its first argument names."""
    wanted = "check_" if sys.argv[1] == "all" else sys.argv[1]
    for part in [one for key, one in parts.items() if key.startswith(wanted)]:
        began = time.monotonic()
        part()
        print(f"{part.__name__}: {time.monotonic() - began:.1f} s", flush=True)
    # Threads of the client may wait for a server that is gone.
    os._exit(0)
