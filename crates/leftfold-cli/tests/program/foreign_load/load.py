"""Appends without end by a client of another store, unmodified, and says what has to be there.

    load.py kurrentdb|umadb PORT NAME [BYTES]

A request that got no answer is sent again, as it was, until it has one; so no append is lost and
none is there twice. It says "full" when an append was refused for want of room, and ends when its
input does: then it reads its stream and compares it with what was accepted.
"""

import sys
import threading
import time
import uuid

PROTOCOL, PORT, NAME = sys.argv[1:4]
DATA = b"x" * (int(sys.argv[4]) if len(sys.argv) > 4 else 16)
BATCH = 3


class KurrentDb:
    def __init__(self):
        from kurrentdbclient import KurrentDBClient, NewEvent, StreamState, exceptions

        self.client = KurrentDBClient(f"kurrentdb://127.0.0.1:{PORT}?tls=false")
        self.event, self.none = NewEvent, StreamState.NO_STREAM
        self.away = exceptions.KurrentDBClientError
        self.wrong = exceptions.WrongCurrentVersionError
        self.absent = exceptions.NotFoundError

    def append(self, ids, before):
        events = [self.event(type="Placed", data=DATA, id=one) for one in ids]
        expected = before - 1 if before else self.none
        self.client.append_to_stream(NAME, current_version=expected, events=events)

    def is_full(self, error):
        # The outcome of a batch has no text in this protocol.
        return type(error).__name__ == "UnknownError"

    def ids(self):
        try:
            return [event.id for event in self.client.get_stream(NAME)]
        except self.absent:
            return []


class UmaDb:
    def __init__(self):
        import umadb

        self.umadb, self.client = umadb, None
        self.away, self.wrong = Exception, umadb.IntegrityError
        self.query = umadb.Query([umadb.QueryItem(tags=[NAME])])
        self.last = None

    def connected(self):
        if self.client is None:
            self.client = self.umadb.Client(f"http://127.0.0.1:{PORT}")
        return self.client

    def append(self, ids, before):
        events = [self.umadb.Event("Placed", DATA, [NAME], one) for one in ids]
        condition = self.umadb.AppendCondition(self.query, after=self.last)
        self.last = self.connected().append(events, condition)

    def is_full(self, error):
        return "no room" in str(error)

    def ids(self):
        return [one.event.uuid for one in self.connected().read(self.query)]


def main():
    load = KurrentDb() if PROTOCOL == "kurrentdb" else UmaDb()
    is_over = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), is_over.set()), daemon=True).start()
    accepted, again = [], 0
    # One that starts late has something to compare, too.
    while not accepted or not is_over.is_set():
        ids = [uuid.uuid4() for _ in range(BATCH)]
        again += accept(load, ids, len(accepted))
        accepted += ids
    found = None
    while found is None:
        try:
            found = load.ids()
        except load.away:
            time.sleep(0.02)
    assert [str(one) for one in found] == [str(one) for one in accepted], (
        f"{NAME}: {len(accepted)} were accepted, {len(found)} are there"
    )
    print(f"{NAME}: {len(accepted)} events, {again} requests were sent again", flush=True)


def accept(load, ids, before):
    """Sends a request until it is accepted, and returns how often it was sent again."""
    again, said = 0, False
    while True:
        try:
            load.append(ids, before)
            return again
        except load.wrong as error:
            raise AssertionError(f"{NAME}: nobody else writes here") from error
        except load.away as error:
            if not said and load.is_full(error):
                print("full", flush=True)
                said = True
            again += 1
            time.sleep(0.02)


if __name__ == "__main__":
    main()
