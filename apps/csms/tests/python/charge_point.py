"""A charge point under remote control: commands come as lines of JSON on standard input, and what happens goes out as
lines of JSON on standard output. The protocol is spoken by the package `ocpp`; messages are validated by it."""

import asyncio
import json
import logging
import sys

import websockets
from ocpp.exceptions import OCPPError
from ocpp.routing import on
from ocpp.v16 import ChargePoint as Base
from ocpp.v16 import call, call_result

logging.disable(logging.CRITICAL)


def say(**what):
    print(json.dumps(what), flush=True)


class ChargePoint(Base):
    # The status with which an action is answered; None for silence.
    answers = {}

    async def _handle_call(self, message):
        say(received=message.action, payload=message.payload, id=message.unique_id)
        if self.answers.get(message.action, "Accepted") is not None:
            await super()._handle_call(message)

    def status(self, action):
        return self.answers.get(action, "Accepted")

    @on("RemoteStartTransaction")
    def remote_start(self, **_):
        return call_result.RemoteStartTransaction(status=self.status("RemoteStartTransaction"))

    @on("RemoteStopTransaction")
    def remote_stop(self, **_):
        return call_result.RemoteStopTransaction(status=self.status("RemoteStopTransaction"))

    @on("UnlockConnector")
    def unlock(self, **_):
        return call_result.UnlockConnector(status=self.answers.get("UnlockConnector", "Unlocked"))

    @on("TriggerMessage")
    def trigger(self, **_):
        return call_result.TriggerMessage(status=self.status("TriggerMessage"))


class Remote:
    """One charge point; `connect` may be called again, which leaves the older connection open."""

    def __init__(self):
        self.connection = None
        self.point = None
        self.answers = {}

    async def connect(self, url, subprotocols=("ocpp1.6",)):
        subprotocols = [websockets.Subprotocol(name) for name in subprotocols] or None
        self.connection = await websockets.connect(url, subprotocols=subprotocols, max_size=None, ping_interval=None)
        self.point = ChargePoint(url.rsplit("/", 1)[1], self.connection)
        self.point.answers = self.answers
        asyncio.ensure_future(self.serve(self.connection, self.point))
        say(connected=self.connection.subprotocol or "")

    async def serve(self, connection, point):
        try:
            await point.start()
        except websockets.ConnectionClosed:
            say(closed=connection.close_code or 1006, reason=connection.close_reason or "")

    async def call(self, action, payload):
        try:
            reply = await self.point.call(getattr(call, action)(**payload), suppress=False)
            say(reply=action, payload=reply.__dict__)
        except OCPPError as error:
            say(error=error.code, description=str(error.description))
        except (asyncio.TimeoutError, websockets.ConnectionClosed):
            say(error="lost", description=action)

    def answer(self, action, status):
        self.answers[action] = status

    async def raw(self, text):
        await self.connection.send(text)

    async def close(self):
        await self.connection.close()

    async def abort(self):
        self.connection.transport.abort()


async def main():
    remote = Remote()
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command = json.loads(line)
        try:
            done = getattr(remote, command.pop("do"))(**command)
            if asyncio.iscoroutine(done):
                # Calls run beside further commands, as messages cross in real life.
                task = asyncio.ensure_future(done)
                if line.find('"call"') < 0:
                    await task
        except Exception as error:  # whatever it is, the test is to see it
            say(failed=type(error).__name__, detail=str(error), status=getattr(getattr(error, "response", None), "status_code", None))


asyncio.run(main())
