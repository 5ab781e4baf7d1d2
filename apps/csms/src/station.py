import asyncio, websockets
from datetime import datetime, timezone
from ocpp.routing import on
from ocpp.v16 import ChargePoint, call, call_result

def now():
    return datetime.now(timezone.utc).isoformat()

class Station(ChargePoint):
    @on("RemoteStartTransaction")
    def remote_start(self, id_tag, **_):
        asyncio.create_task(self.charge(id_tag))
        return call_result.RemoteStartTransaction("Accepted")

    async def charge(self, id_tag):
        await self.call(call.StartTransaction(1, id_tag, 0, now()))
        await self.call(call.StatusNotification(1, "NoError", "Charging"))

async def main():
    url = "ws://ADDRESS/ocpp/CP-1"
    async with websockets.connect(url, subprotocols=["ocpp1.6"]) as socket:
        station = Station("CP-1", socket)
        asyncio.create_task(station.start())
        await station.call(call.BootNotification("Model", "Vendor"))
        await station.call(call.StatusNotification(1, "NoError", "Available"))
        await asyncio.sleep(3600)

asyncio.run(main())
