"""A server that goes away and comes back, by kurrentdbclient."""

import sys

from clients import ANY, connect, event, events, name, run
from kurrentdbclient.exceptions import GrpcError

client = connect()


def check_a_restart():
    stream = name()
    client.append_to_stream(stream, current_version=ANY, events=events(2))
    following = client.subscribe_to_stream(stream)
    assert [next(following).stream_position for _ in range(2)] == [0, 1]
    print("restart it", flush=True)
    try:
        next(following)
        raise AssertionError("the subscription ends with the server")
    except GrpcError:
        pass
    assert sys.stdin.readline() == "it is back\n"
    # The client goes on by itself; what it had seen is where it resumes.
    again = event()
    client.append_to_stream(stream, current_version=1, events=again)
    client.append_to_stream(stream, current_version=1, events=again)
    with client.subscribe_to_stream(stream, stream_position=1) as following:
        assert next(following).id == again.id


if __name__ == "__main__":
    run(globals())
