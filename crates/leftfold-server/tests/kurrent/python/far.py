"""The only event of its type, far from both ends, by kurrentdbclient."""

from clients import connect, run

client = connect()


def check_one_event_is_found():
    for backwards in [False, True]:
        found = client.read_all(filter_include=["wanted.*"], limit=1, backwards=backwards)
        assert [one.type for one in found] == ["wanted.Kind"]


if __name__ == "__main__":
    run(globals())
