// The same as load.py, by the clients of KurrentDB for Node: load.mjs CLIENT PORT NAME

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import path from "node:path";

const [client, port, name] = process.argv.slice(2);
const require = createRequire(path.join(process.env.LEFTFOLD_NODE_CLIENTS, "package.json"));
const kit = require(client);
const Client = kit.KurrentDBClient ?? kit.EventStoreDBClient;
const connect = () => Client.connectionString(`esdb://127.0.0.1:${port}?tls=false`);
const BATCH = 3;

let isOver = false;
process.stdin.on("end", () => (isOver = true)).resume();

let connection = connect();
const pause = () => new Promise((resolve) => setTimeout(resolve, 20));
const accepted = [];
let again = 0;

async function until(call) {
  for (;;) {
    try {
      return await call();
    } catch (error) {
      assert.notEqual(error.type, kit.ErrorType.WRONG_EXPECTED_VERSION, `${name}: ${error}`);
      again += 1;
      await pause();
    }
  }
}

// One that starts late has something to compare, too.
while (accepted.length === 0 || !isOver) {
  const events = Array.from({ length: BATCH }, (_, n) =>
    kit.jsonEvent({ id: randomUUID(), type: "Placed", data: { n } }),
  );
  const before = accepted.length;
  const expected = before === 0 ? kit.NO_STREAM : BigInt(before - 1);
  const state = { expectedRevision: expected, streamState: expected };
  await until(() => connection.appendToStream(name, events, state));
  accepted.push(...events.map((event) => event.id));
}
const found = await until(async () => {
  const ids = [];
  try {
    for await (const { event } of connection.readStream(name)) ids.push(event.id);
  } catch (error) {
    if (error.type !== kit.ErrorType.STREAM_NOT_FOUND) throw error;
  }
  return ids;
});
assert.deepEqual(found, accepted, `${name}: ${accepted.length} were accepted, ${found.length} found`);
console.log(`${name}: ${accepted.length} events, ${again} requests were sent again`);
process.exit(0);
