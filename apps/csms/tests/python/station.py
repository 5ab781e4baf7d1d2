"""A charge point for the tests of csms, on the PyPI packages `ocpp` (OCPP 1.6J) and `websockets`.

Started with the identity and the base URL, it reads one JSON command a line from stdin and reports what happens as one
JSON event a line on stdout. It ends with its stdin. Requests and confirmations are validated against OCA's schemas by
the package, so an answer that csms spells wrongly is an error here.

Commands (`do`; `request` names the command in the events that answer it):
  connect     subprotocols?, url?, within?    -> connected | refused | failed; within: seconds;
              headers?, ca?, cert?, key?         more headers; files of PEM to encrypt the connection by
  call        action, payload, messageId?     -> answer | error | failed
  policy      action, status | payload | hold | error
                                              how calls of that action are answered from now on
  release     action, status                  answers the oldest held call of that action
  send        text                            a text frame as it is
  ping                                        -> answer
  pause, resume                               stop reading the socket, as a frozen station would
  close                                       the closing handshake; -> closed
  abort                                       drops the TCP connection; -> closed
Events further: frame (every text received), closed (of every connection).
"""

import asyncio
import json
import logging
import ssl
import sys

from ocpp.charge_point import camel_to_snake_case
from ocpp.exceptions import NotImplementedError as NotImplementedCallError
from ocpp.exceptions import NotSupportedError
from ocpp.routing import after, on
from ocpp.v16 import ChargePoint, call, call_result
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

CONNECT_OPTIONS = ("url", "within", "headers", "ca", "cert", "key")

# The actions that are answered with a payload, and the answers unless a policy says otherwise.
OPERATIONS = {
    "CertificateSigned": {"status": "Accepted"},
    "ChangeAvailability": {"status": "Accepted"},
    "ChangeConfiguration": {"status": "Accepted"},
    "ClearCache": {"status": "Accepted"},
    "ClearChargingProfile": {"status": "Accepted"},
    "DataTransfer": {"status": "Accepted"},
    "DeleteCertificate": {"status": "Accepted"},
    "ExtendedTriggerMessage": {"status": "Accepted"},
    "GetCompositeSchedule": {"status": "Rejected"},
    "GetConfiguration": {"configurationKey": []},
    "GetDiagnostics": {"fileName": "diagnostics.zip"},
    "GetInstalledCertificateIds": {"status": "NotFound"},
    "GetLocalListVersion": {"listVersion": 0},
    "GetLog": {"status": "Accepted", "filename": "log.txt"},
    "InstallCertificate": {"status": "Accepted"},
    "Reset": {"status": "Accepted"},
    "SendLocalList": {"status": "Accepted"},
    "SetChargingProfile": {"status": "Accepted"},
    "SignedUpdateFirmware": {"status": "Accepted"},
    "UpdateFirmware": {},
}

ERRORS = {"NotImplemented": NotImplementedCallError, "NotSupported": NotSupportedError}


def report(event, **fields):
    print(json.dumps({"event": event, **fields}), flush=True)


class Behaviour:
    """How the station answers; it outlives connections."""

    def __init__(self):
        self.policies = {
            "RemoteStartTransaction": {"status": "Accepted"},
            "RemoteStopTransaction": {"status": "Accepted"},
            "UnlockConnector": {"status": "Unlocked"},
            "ReserveNow": {"status": "Accepted"},
            "CancelReservation": {"status": "Accepted"},
            "TriggerMessage": {"status": "Accepted"},
            **{action: {"payload": payload} for action, payload in OPERATIONS.items()},
        }
        self.held = []
        # Releases that came before their call was held: a frame is reported before it is handled.
        self.released = []
        # The latest StatusNotification of each connector, for whoever triggers it again.
        self.statuses = {}

    async def status_for(self, action):
        policy = self.policies[action]
        if "error" in policy:
            raise ERRORS[policy["error"]]()
        if policy.get("hold"):
            for at, (released, status) in enumerate(self.released):
                if released == action:
                    self.released.pop(at)
                    return status
            answer = asyncio.get_running_loop().create_future()
            self.held.append((action, answer))
            return await answer
        return policy.get("payload", policy.get("status"))

    def release(self, action, status):
        for at, (held, answer) in enumerate(self.held):
            if held == action:
                self.held.pop(at)
                answer.set_result(status)
                return
        self.released.append((action, status))


class Station(ChargePoint):
    def __init__(self, identity, connection, behaviour, number):
        super().__init__(identity, connection, response_timeout=15)
        self.behaviour = behaviour
        self.number = number
        self.replies = {}
        self.triggered = []

    async def run(self):
        """Reads until the socket ends. Unlike `start`, it goes on reading while a call of csms waits for its answer."""
        routes = set()
        try:
            while True:
                text = await self._connection.recv()
                report("frame", connection=self.number, text=text)
                self.remember_reply(text)
                task = asyncio.create_task(self.route_message(text))
                routes.add(task)
                task.add_done_callback(routes.discard)
        except ConnectionClosed as end:
            code = end.rcvd.code if end.rcvd else 1006
            report("closed", connection=self.number, code=code)

    def remember_reply(self, text):
        try:
            frame = json.loads(text)
        except ValueError:
            return
        if isinstance(frame, list) and frame and frame[0] in (3, 4):
            self.replies[frame[1]] = frame

    async def perform(self, action, payload, message_id, request):
        message_id = message_id or f"{self.number}-{request}"
        try:
            message = getattr(call, action)(**camel_to_snake_case(payload))
            await self.call(message, suppress=False, unique_id=message_id)
            report("answer", request=request, payload=self.replies.pop(message_id)[2])
        except Exception as failure:
            reply = self.replies.pop(message_id, None)
            if reply and reply[0] == 4:
                report("error", request=request, code=reply[2], description=reply[3])
            else:
                report("failed", request=request, reason=f"{type(failure).__name__}: {failure}", reply=reply)

    @on("RemoteStartTransaction")
    async def on_remote_start(self, **_):
        status = await self.behaviour.status_for("RemoteStartTransaction")
        return call_result.RemoteStartTransaction(status=status)

    @on("RemoteStopTransaction")
    async def on_remote_stop(self, **_):
        status = await self.behaviour.status_for("RemoteStopTransaction")
        return call_result.RemoteStopTransaction(status=status)

    @on("UnlockConnector")
    async def on_unlock(self, **_):
        return call_result.UnlockConnector(status=await self.behaviour.status_for("UnlockConnector"))

    @on("ReserveNow")
    async def on_reserve(self, **_):
        return call_result.ReserveNow(status=await self.behaviour.status_for("ReserveNow"))

    @on("CancelReservation")
    async def on_cancel_reservation(self, **_):
        return call_result.CancelReservation(status=await self.behaviour.status_for("CancelReservation"))

    @on("TriggerMessage")
    async def on_trigger(self, **_):
        status = await self.behaviour.status_for("TriggerMessage")
        self.triggered.append(status == "Accepted")
        return call_result.TriggerMessage(status=status)

    @after("TriggerMessage")
    async def send_triggered(self, requested_message, connector_id=None, **_):
        if not self.triggered.pop(0):
            return
        if requested_message == "Heartbeat":
            await self.call(call.Heartbeat())
        if requested_message == "BootNotification":
            await self.call(call.BootNotification(charge_point_vendor="Leftfold", charge_point_model="Tester"))
        if requested_message == "StatusNotification":
            known = self.behaviour.statuses
            wanted = known if connector_id is None else {connector_id: known.get(connector_id)}
            for payload in [payload for payload in wanted.values() if payload]:
                await self.call(call.StatusNotification(**camel_to_snake_case(payload)))


def answering(action):
    """A handler that answers as the policy of the action says: with a payload, or with a status."""

    async def answer(self, **_):
        answer = await self.behaviour.status_for(action)
        payload = {"status": answer} if isinstance(answer, str) else answer
        return getattr(call_result, action)(**camel_to_snake_case(payload))

    # The package finds handlers by this name.
    answer.__name__ = f"on_{action}"
    return on(action)(answer)


for operation in OPERATIONS:
    setattr(Station, f"on_{operation}", answering(operation))


class Program:
    def __init__(self, identity, url):
        self.identity = identity
        self.url = url
        self.behaviour = Behaviour()
        self.station = None
        self.connections = 0
        self.tasks = set()

    def start(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def connect(self, request, subprotocols, url=None, within=10, headers=None, ca=None, cert=None, key=None):
        self.connections += 1
        encryption = {}
        if ca:
            encryption["ssl"] = ssl.create_default_context(cafile=ca)
            if cert:
                encryption["ssl"].load_cert_chain(cert, key)
        try:
            # Pings of ours would be signs of life that a test did not ask for.
            connection = await connect(
                url or self.url,
                subprotocols=subprotocols or None,
                additional_headers=headers,
                ping_interval=None,
                close_timeout=2,
                open_timeout=within,
                **encryption,
            )
        except InvalidStatus as refusal:
            report("refused", request=request, status=refusal.response.status_code)
            return
        except Exception as failure:
            report("failed", request=request, reason=f"{type(failure).__name__}: {failure}")
            return
        self.station = Station(self.identity, connection, self.behaviour, self.connections)
        self.start(self.station.run())
        report("connected", request=request, subprotocol=connection.subprotocol)

    async def obey(self, command):
        do, request = command["do"], command.get("request")
        station = self.station
        if do == "connect":
            options = {key: command[key] for key in CONNECT_OPTIONS if key in command}
            await self.connect(request, command.get("subprotocols", ["ocpp1.6"]), **options)
        elif do == "call":
            action, payload = command["action"], command["payload"]
            if action == "StatusNotification":
                self.behaviour.statuses[payload["connectorId"]] = payload
            self.start(station.perform(action, payload, command.get("messageId"), request))
        elif do == "policy":
            self.behaviour.policies[command["action"]] = command
        elif do == "release":
            self.behaviour.release(command["action"], command["status"])
        elif do == "send":
            try:
                await station._connection.send(command["text"])
            except ConnectionClosed:
                # Its end is reported where the socket is read.
                pass
        elif do == "ping":
            await (await station._connection.ping())
            report("answer", request=request, payload={})
        elif do == "pause":
            station._connection.transport.pause_reading()
        elif do == "resume":
            station._connection.transport.resume_reading()
        elif do == "close":
            await station._connection.close()
        elif do == "abort":
            station._connection.transport.abort()
        else:
            raise ValueError(f"no such command: {do}")


async def main():
    logging.disable(logging.CRITICAL)
    program = Program(sys.argv[1], sys.argv[2])
    stdin = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stdin), sys.stdin)
    while line := await stdin.readline():
        await program.obey(json.loads(line))


asyncio.run(main())
