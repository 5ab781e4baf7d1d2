// The other system: records what it sees of foos, by a client of KurrentDB as it is published.
//
//   node sightings.mjs ADDRESS [PACKAGE] < sightings
//
// Each line of its input is one sighting, as JSON: {"bar": "7", "baz": "blue", "status": "Paused",
// "at": "2026-05-01T12:00:00Z"}, or with a "label" in place of the status. It prints the position
// of the last one. The package of the client is installed where LEFTFOLD_NODE_CLIENTS says.

import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const [address, name = "@kurrent/kurrentdb-client"] = process.argv.slice(2);
const require = createRequire(`${process.env.LEFTFOLD_NODE_CLIENTS ?? process.cwd()}/sightings.js`);
const { ANY, EventStoreDBClient, KurrentDBClient, jsonEvent } = require(name);
const [Client, scheme] = KurrentDBClient ? [KurrentDBClient, "kurrentdb"] : [EventStoreDBClient, "esdb"];
const client = Client.connectionString(`${scheme}://${address}?tls=false`);

// ANCHOR: record
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
const escaped = (id) => (UUID.test(id) ? id : id.replaceAll("%", "%25").replaceAll("-", "%2D"));

/** A foo has a stream, and a sighting is an event of it: nobody else writes there. */
async function record({ bar, baz, at, status, label }) {
  const event = status
    ? jsonEvent({ type: "foo.StatusSeen", data: { at, status } })
    : jsonEvent({ type: "foo.Labelled", data: { at, label } });
  const stream = `foos-${escaped(bar)}-${escaped(baz)}`;
  const { position } = await client.appendToStream(stream, event, { expectedRevision: ANY, streamState: ANY });
  return position.commit;
}
// ANCHOR_END: record

let last = 0n;
for await (const line of createInterface({ input: process.stdin })) last = await record(JSON.parse(line));
console.log(String(last));
await client.dispose();
