// One scenario for both clients of Node: appends, conflicts, reads, subscriptions, reconnection,
// encryption with credentials. Arguments: the client, the part, and the rest of a connection string.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";

const [name, part, address] = process.argv.slice(2);
// Clients are installed elsewhere.
const require = createRequire(process.env.LEFTFOLD_NODE_CLIENTS + "/scenario.js");
const isNew = name === "@kurrent/kurrentdb-client";
const kit = require(name);
const Client = isNew ? kit.KurrentDBClient : kit.EventStoreDBClient;
const connect = (at = address) => Client.connectionString(`${isNew ? "kurrentdb" : "esdb"}://${at}`);
const { ANY, BACKWARDS, END, START, jsonEvent, binaryEvent } = kit;
const NONE = kit.NO_STREAM, EXISTS = kit.STREAM_EXISTS;
const state = (expected) => (isNew ? { streamState: expected } : { expectedRevision: expected });

const stream = (prefix = "order") => `${prefix}-${randomUUID()}`;
const placed = (number, type = "OrderPlaced") => jsonEvent({ type, data: { number }, metadata: { by: "ada" } });
const several = (count, type) => Array.from({ length: count }, (_, number) => placed(number, type));
const all = async (reading) => {
  const found = [];
  for await (const one of reading) found.push(one);
  return found;
};
const revisions = async (client, of, options) =>
  (await all(client.readStream(of, options))).map(({ event }) => Number(event.revision));

/** What a subscription tells, one after the other. */
class Heard {
  #waiting = [];
  #there = [];
  constructor(subscription, ...marks) {
    this.subscription = subscription;
    subscription.on("data", (one) => this.tell(one));
    subscription.on("error", (error) => this.tell({ error }));
    for (const mark of marks) subscription.on(mark, () => this.tell({ mark }));
  }
  tell(one) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(one);
    else this.#there.push(one);
  }
  next() {
    if (this.#there.length) return Promise.resolve(this.#there.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }
  async ended() {
    await this.subscription.unsubscribe();
  }
}

const parts = {
  async streams() {
    const client = connect();
    const order = stream();
    const bytes = binaryEvent({ type: "Bytes", data: Buffer.from([0, 255]), metadata: Buffer.from([7]) });
    const appended = await client.appendToStream(order, [placed(0), placed(1), bytes], state(NONE));
    assert.equal(appended.success, true);
    assert.equal(appended.nextExpectedRevision, 2n);
    const found = await all(client.readStream(order));
    assert.deepEqual(found.map(({ event }) => event.type), ["OrderPlaced", "OrderPlaced", "Bytes"]);
    assert.deepEqual(found[1].event.data, { number: 1 });
    assert.deepEqual(found[1].event.metadata, { by: "ada" });
    assert.deepEqual([...found[2].event.data], [0, 255]);
    assert.equal(found[2].event.streamId, order);
    assert.ok(found[0].event.created > new Date("2020-01-01") || Number(found[0].event.created) > 0);
    assert.equal(found[2].event.position.commit, appended.position.commit);

    await assert.rejects(client.appendToStream(order, placed(3), state(NONE)), (error) => {
      assert.equal(error.type, kit.ErrorType.WRONG_EXPECTED_VERSION);
      assert.equal(error.streamName, order);
      assert.equal(error.actualVersion ?? error.actualState, 2n);
      return true;
    });
    await assert.rejects(client.appendToStream(order, placed(3), state(7n)), { type: kit.ErrorType.WRONG_EXPECTED_VERSION });
    await client.appendToStream(order, several(3), state(2n));
    await client.appendToStream(order, several(1), state(EXISTS));
    assert.deepEqual(await revisions(client, order, { fromRevision: 4n }), [4, 5, 6]);
    assert.deepEqual(await revisions(client, order, { direction: BACKWARDS, fromRevision: END, maxCount: 2 }), [6, 5]);
    assert.deepEqual(await revisions(client, order, { direction: BACKWARDS, fromRevision: 1n }), [1, 0]);
    await assert.rejects(all(client.readStream(stream())), { type: kit.ErrorType.STREAM_NOT_FOUND });

    const same = placed(9);
    await client.appendToStream(order, same, state(ANY));
    await client.appendToStream(order, same, state(ANY));
    assert.equal((await revisions(client, order)).length, 8);

    const last = await all(client.readAll({ direction: BACKWARDS, fromPosition: END, maxCount: 1 }));
    assert.equal(last[0].event.id, same.id);
    const from = { fromPosition: { commit: appended.position.commit, prepare: appended.position.prepare } };
    const rest = await all(client.readAll({ ...from, maxCount: 2 }));
    assert.deepEqual(rest.map(({ event }) => Number(event.revision)), [2, 3]);
    await client.dispose();
  },

  async deletions() {
    const client = connect();
    const order = stream();
    await client.appendToStream(order, several(3), state(NONE));
    await client.setStreamMetadata(order, { maxCount: 2, acl: { readRoles: ["ada"] }, own: 5 });
    const { metadata } = await client.getStreamMetadata(order);
    assert.equal(metadata.maxCount, 2);
    assert.equal(metadata.own, 5);
    assert.deepEqual(await revisions(client, order), [1, 2]);
    await client.deleteStream(order, state(2n));
    await assert.rejects(all(client.readStream(order)), { type: kit.ErrorType.STREAM_NOT_FOUND });
    await client.appendToStream(order, placed(3), state(NONE));
    assert.deepEqual(await revisions(client, order), [3]);
    await client.tombstoneStream(order, state(ANY));
    await assert.rejects(all(client.readStream(order)), { type: kit.ErrorType.STREAM_DELETED });
    await assert.rejects(client.appendToStream(order, placed(4), state(ANY)), { type: kit.ErrorType.STREAM_DELETED });
    const category = `category${randomUUID().replaceAll("-", "")}`;
    for (const number of [1, 2]) await client.appendToStream(`${category}-${number}`, placed(number));
    const links = await all(client.readStream(`$ce-${category}`, { resolveLinkTos: true }));
    assert.deepEqual(links.map(({ event }) => event.streamId), [`${category}-1`, `${category}-2`]);
    assert.deepEqual(links.map(({ link }) => Number(link.revision)), [0, 1]);
    if (isNew) {
      const several = [stream(), stream()];
      const request = (streamName) => ({ streamName, expectedState: NONE, events: [jsonEvent({ type: "Paid", data: {}, metadata: { by: "ada" } })] });
      const answer = await client.multiStreamAppend(several.map(request));
      assert.equal((answer.responses ?? answer.successes).length, 2);
      assert.deepEqual(await revisions(client, several[1]), [0]);
    }
    await client.dispose();
  },

  async subscriptions() {
    const client = connect();
    const order = stream(), kind = `Kind${randomUUID()}`;
    const before = await client.appendToStream(order, placed(0));
    const fromPosition = before.position;
    await client.appendToStream(order, [...several(40), ...several(2, kind)]);
    const heard = new Heard(client.subscribeToStream(order, { fromRevision: 40n }), "caughtUp");
    assert.equal((await heard.next()).event.revision, 41n);
    assert.equal((await heard.next()).event.revision, 42n);
    assert.deepEqual(await heard.next(), { mark: "caughtUp" });
    await client.appendToStream(order, placed(43));
    assert.equal((await heard.next()).event.revision, 43n);
    await heard.ended();

    const checkpoints = [];
    const checkpointReached = (_, position) => void checkpoints.push(position);
    const filter = kit.eventTypeFilter({ prefixes: [kind], checkpointInterval: 1, maxSearchWindow: 10, checkpointReached });
    const filtered = new Heard(client.subscribeToAll({ fromPosition, filter }), "caughtUp");
    for (const number of [0, 1]) assert.equal((await filtered.next()).event.data.number, number);
    assert.deepEqual(await filtered.next(), { mark: "caughtUp" });
    assert.ok(checkpoints.length > 0 && checkpoints[0].commit > before.position.commit);
    await filtered.ended();

    const matching = kit.streamNameFilter({ regex: `^${order}$`, checkpointInterval: 1 });
    const named = new Heard(client.subscribeToAll({ fromPosition: END, filter: matching }), "caughtUp");
    assert.deepEqual(await named.next(), { mark: "caughtUp" });
    await client.appendToStream(stream(), placed(0));
    await client.appendToStream(order, placed(44));
    assert.equal((await named.next()).event.revision, 44n);
    await named.ended();

    const own = new Heard(client.subscribeToAll({ fromPosition: END, filter: kit.excludeSystemEvents() }), "caughtUp");
    assert.deepEqual(await own.next(), { mark: "caughtUp" });
    await client.setStreamMetadata(order, { own: 1 });
    await client.appendToStream(order, placed(45));
    assert.equal((await own.next()).event.revision, 45n);
    await own.ended();
    await client.dispose();
  },

  async groups() {
    const client = connect();
    const order = stream();
    const settings = (changes) => kit.persistentSubscriptionToStreamSettingsFromDefaults(changes);
    const missing = { type: kit.ErrorType.PERSISTENT_SUBSCRIPTION_DOES_NOT_EXIST, streamName: order, groupName: "workers" };
    await assert.rejects(client.getPersistentSubscriptionToStreamInfo(order, "workers"), missing);
    await assert.rejects(client.deletePersistentSubscriptionToStream(order, "workers"), missing);
    const made = settings({ startFrom: START, maxSubscriberCount: 2, maxRetryCount: 1, checkPointLowerBound: 1, checkPointUpperBound: 1 });
    await client.createPersistentSubscriptionToStream(order, "workers", made);
    await assert.rejects(client.createPersistentSubscriptionToStream(order, "workers", made), {
      type: kit.ErrorType.PERSISTENT_SUBSCRIPTION_EXISTS,
    });
    await client.appendToStream(order, several(6));
    const consume = () =>
      new Heard(client.subscribeToPersistentSubscriptionToStream(order, "workers", { bufferSize: 3 }));
    const [one, other] = [consume(), consume()];
    const take = async (heard, count) => {
      const found = [];
      while (found.length < count) found.push(await heard.next());
      return found;
    };
    const [ofOne, ofOther] = [await take(one, 3), await take(other, 3)];
    const numbers = [...ofOne, ...ofOther].map(({ event }) => Number(event.revision)).sort();
    assert.deepEqual(numbers, [0, 1, 2, 3, 4, 5]);
    const third = consume();
    assert.equal((await third.next()).error.type, kit.ErrorType.MAXIMUM_SUBSCRIBERS_REACHED);
    const info = () => client.getPersistentSubscriptionToStreamInfo(order, "workers");
    const until = async (wanted) => {
      for (;;) {
        const found = await info();
        if (wanted(found.stats)) return found;
      }
    };
    const full = await until((stats) => stats.totalInFlightMessages === 6);
    assert.equal(full.connections.length, 2);
    assert.equal(full.settings.startFrom, START);
    assert.equal(full.settings.consumerStrategyName, kit.ROUND_ROBIN);
    assert.equal(full.stats.lastKnownEventRevision, 5n);
    await one.subscription.nack("retry", "once more", ofOne[0]);
    const again = await one.next();
    assert.equal(again.retryCount, 1);
    await one.subscription.nack("retry", "too often", again);
    await one.subscription.nack("park", "bad", ofOne[1]);
    await one.subscription.nack("skip", "not mine", ofOne[2]);
    await other.subscription.ack(...ofOther);
    const settled = await until((stats) => stats.parkedMessageCount === 2n && stats.lastCheckpointedEventRevision === 5n);
    assert.equal(settled.stats.totalInFlightMessages, 0);
    await client.replayParkedMessagesToStream(order, "workers", { stopAt: 1 });
    await client.replayParkedMessagesToStream(order, "workers");
    const replayed = await Promise.all([one.next(), other.next()]);
    assert.deepEqual(replayed.map(({ event }) => event.id).sort(), [ofOne[0], ofOne[1]].map(({ event }) => event.id).sort());
    await client.updatePersistentSubscriptionToStream(order, "workers", settings({ ...made, maxRetryCount: 5 }));
    const dropped = { type: kit.ErrorType.PERSISTENT_SUBSCRIPTION_DROPPED };
    for (const heard of [one, other]) assert.equal((await heard.next()).error.type, dropped.type);
    assert.equal((await info()).settings.maxRetryCount, 5);
    const last = consume();
    // The server ended them, not the consumers.
    assert.equal((await last.next()).retryCount, 0);
    await client.deletePersistentSubscriptionToStream(order, "workers");
    for (let heard; !(heard = await last.next()).error || assert.equal(heard.error.type, dropped.type); );

    const group = stream("group");
    const toAll = kit.persistentSubscriptionToAllSettingsFromDefaults({ startFrom: END });
    const filter = kit.streamNameFilter({ prefixes: [order] });
    await client.createPersistentSubscriptionToAll(group, toAll, { filter });
    await client.appendToStream(stream(), placed(1));
    await client.appendToStream(order, placed(6));
    const ofAll = new Heard(client.subscribeToPersistentSubscriptionToAll(group));
    const found = await ofAll.next();
    assert.equal(found.event.revision, 6n);
    await ofAll.subscription.ack(found);
    const told = await client.getPersistentSubscriptionToAllInfo(group);
    assert.equal(told.settings.startFrom, END);
    assert.ok((await client.listAllPersistentSubscriptions()).some(({ groupName }) => groupName === group));
    assert.ok((await client.listPersistentSubscriptionsToAll()).some(({ groupName }) => groupName === group));
    await client.restartPersistentSubscriptionSubsystem();
    assert.equal((await ofAll.next()).error.type, dropped.type);
    await client.deletePersistentSubscriptionToAll(group);
    await client.dispose();
  },

  async restart() {
    const client = connect();
    const order = stream();
    await client.appendToStream(order, placed(0));
    const settings = kit.persistentSubscriptionToStreamSettingsFromDefaults({ startFrom: START });
    await client.createPersistentSubscriptionToStream(order, "workers", settings);
    const consumed = new Heard(client.subscribeToPersistentSubscriptionToStream(order, "workers"));
    await consumed.subscription.ack(await consumed.next());
    while ((await client.getPersistentSubscriptionToStreamInfo(order, "workers")).stats.totalInFlightMessages);
    const heard = new Heard(client.subscribeToStream(order), "caughtUp");
    assert.equal((await heard.next()).event.revision, 0n);
    assert.deepEqual(await heard.next(), { mark: "caughtUp" });
    console.log("restart it");
    assert.ok((await heard.next()).error, "the subscription ends with the server");
    for await (const _ of createInterface({ input: process.stdin })) break;
    // A client that lost its server finds it again, within a few calls.
    for (let call = 0; ; call += 1) {
      try {
        await client.appendToStream(order, placed(1), state(0n));
        break;
      } catch (error) {
        if (call >= 20) throw error;
      }
    }
    assert.deepEqual(await revisions(client, order), [0, 1]);
    const goesOn = new Heard(client.subscribeToPersistentSubscriptionToStream(order, "workers"));
    assert.equal((await goesOn.next()).event.revision, 1n, "what was acknowledged is settled");
    const again = new Heard(client.subscribeToStream(order, { fromRevision: 0n }));
    assert.equal((await again.next()).event.revision, 1n);
    await again.ended();
    await client.dispose();
  },

  async encrypted() {
    const client = connect();
    const order = stream();
    await client.appendToStream(order, placed(0), state(NONE));
    assert.deepEqual(await revisions(client, order), [0]);
    const credentials = { username: "rae", password: "r" };
    assert.equal((await all(client.readStream(order, { credentials }))).length, 1);
    const denied = { type: kit.ErrorType.ACCESS_DENIED };
    await assert.rejects(client.appendToStream(order, placed(1), { credentials }), denied);
    // To make a subscription is for admins, to consume for whoever appends.
    const settings = kit.persistentSubscriptionToStreamSettingsFromDefaults({ startFrom: START });
    await assert.rejects(client.createPersistentSubscriptionToStream(order, "workers", settings), denied);
    const root = { credentials: { username: "ann", password: "a" } };
    await client.createPersistentSubscriptionToStream(order, "workers", settings, root);
    const consumed = new Heard(client.subscribeToPersistentSubscriptionToStream(order, "workers"));
    assert.equal((await consumed.next()).event.revision, 0n);
    const refused = new Heard(client.subscribeToPersistentSubscriptionToStream(order, "workers", { credentials }));
    assert.equal((await refused.next()).error.type, denied.type);
    const info = await client.getPersistentSubscriptionToStreamInfo(order, "workers", { credentials });
    assert.equal(info.connections[0].username, "ada");
    await consumed.ended();
    await client.dispose();
  },

  // A server that is not to be trusted, and a password that is guessed.
  async refused() {
    const client = connect();
    await assert.rejects(client.appendToStream(stream(), placed(0), state(NONE)));
    await assert.rejects(all(client.readStream(stream())));
  },
};

await parts[part]();
process.exit(0);
