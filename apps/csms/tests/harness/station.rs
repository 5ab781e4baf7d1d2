//! A charge point, driven step by step. It is python/station.py, which see for the commands and
//! events.

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::deadline::PATIENCE;
use super::server::Server;

/// How the station answers calls of one action.
pub(crate) enum Policy {
    /// With this status.
    Answer(&'static str),
    /// With this payload.
    Payload(Value),
    /// Not before [`Station::release`].
    Hold,
    /// With a CALLERROR of this code.
    Error(&'static str),
}

/// A CALLERROR that the station got.
#[derive(Debug, PartialEq)]
pub(crate) struct CallError {
    pub(crate) code: String,
    pub(crate) description: String,
}

/// A call of ours that is under way.
#[must_use]
pub(crate) struct Pending(u64);

/// One charge point: a process of its own.
pub(crate) struct Station {
    pub(crate) identity: String,
    process: Child,
    commands: Mutex<ChildStdin>,
    heard: Arc<Heard>,
    requests: AtomicU64,
}

/// All events of the station, oldest first.
#[derive(Default)]
struct Heard {
    events: Mutex<Vec<Value>>,
    more: Condvar,
}

/// The life of the station.
impl Station {
    /// A station that has not connected.
    pub(crate) fn new(server: &Server, identity: &str) -> Self {
        let python = env::var_os("LEFTFOLD_PYTHON")
            .expect("LEFTFOLD_PYTHON is not set; run cargo xtask test");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/station.py");
        let mut process = Command::new(python)
            .args([script, identity, &server.websocket_url(identity)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("LEFTFOLD_PYTHON does not start; run cargo xtask test");
        let heard = Arc::<Heard>::default();
        let stdout = process.stdout.take().expect("it is piped");
        thread::spawn({
            let heard = Arc::clone(&heard);
            move || heard.listen(stdout)
        });
        let commands = Mutex::new(process.stdin.take().expect("it is piped"));
        Self {
            identity: identity.to_owned(),
            process,
            commands,
            heard,
            requests: AtomicU64::new(0),
        }
    }

    /// Opens a socket, besides any that it has.
    #[track_caller]
    pub(crate) fn connect(&self) {
        let event = self.try_connect(&["ocpp1.6"]);
        assert_eq!(event["event"], "connected", "{event}");
        assert_eq!(event["subprotocol"], "ocpp1.6", "{event}");
    }

    /// Opens a socket to another server, besides any that it has; false if that server does not
    /// take it in time.
    #[track_caller]
    pub(crate) fn connect_to(&self, url: &str, within: Duration) -> bool {
        let command = json!({"do": "connect", "url": url, "within": within.as_secs_f64()});
        let request = self.command(command);
        self.reply_to(request)["event"] == "connected"
    }

    /// Tries to open a socket; what came of it is `connected`, or `refused` with a status.
    #[track_caller]
    pub(crate) fn try_connect(&self, subprotocols: &[&str]) -> Value {
        let request = self.command(json!({"do": "connect", "subprotocols": subprotocols}));
        self.reply_to(request)
    }

    /// Tries to open a socket in another way: with other options of the command `connect`.
    #[track_caller]
    pub(crate) fn try_connect_with(&self, mut options: Value) -> Value {
        options["do"] = json!("connect");
        let request = self.command(options);
        self.reply_to(request)
    }

    /// The closing handshake.
    #[track_caller]
    pub(crate) fn close(&self) {
        let before = self.closed().len();
        self.command(json!({"do": "close"}));
        self.wait_closed(before + 1);
    }

    /// Drops the connection, as a station without power would.
    #[track_caller]
    pub(crate) fn abort(&self) {
        let before = self.closed().len();
        self.command(json!({"do": "abort"}));
        self.wait_closed(before + 1);
    }

    /// The same, whether it has a connection or not.
    pub(crate) fn abort_any(&self) {
        self.command(json!({"do": "abort"}));
    }

    /// From now on it reads nothing.
    pub(crate) fn freeze(&self) {
        self.command(json!({"do": "pause"}));
    }

    /// It reads again.
    pub(crate) fn thaw(&self) {
        self.command(json!({"do": "resume"}));
    }

    /// The close codes of all its connections that have ended.
    pub(crate) fn closed(&self) -> Vec<u64> {
        let events = self.heard.events.lock().unwrap();
        let closed = events.iter().filter(|event| event["event"] == "closed");
        closed.map(|event| event["code"].as_u64().unwrap()).collect()
    }

    /// The close code of the nth of its connections to end.
    #[track_caller]
    pub(crate) fn wait_closed(&self, nth: usize) -> u64 {
        let closed = |event: &Value| (event["event"] == "closed").then(|| event.clone());
        self.wait("the end of a connection", nth, closed)["code"].as_u64().unwrap()
    }
}

/// What it asks of the server.
impl Station {
    /// A call that is answered.
    #[track_caller]
    pub(crate) fn call(&self, action: &str, payload: Value) -> Value {
        self.try_call(action, payload).unwrap_or_else(|error| panic!("{action}: {error:?}"))
    }

    /// A call and its answer.
    #[track_caller]
    pub(crate) fn try_call(&self, action: &str, payload: Value) -> Result<Value, CallError> {
        let pending = self.begin(action, payload);
        self.finish(pending)
    }

    /// Begins a call. The station sends one at a time; later ones wait for the answer.
    pub(crate) fn begin(&self, action: &str, payload: Value) -> Pending {
        Pending(self.command(json!({"do": "call", "action": action, "payload": payload})))
    }

    /// The answer to a call.
    #[track_caller]
    pub(crate) fn finish(&self, pending: Pending) -> Result<Value, CallError> {
        let event = self.reply_to(pending.0);
        let text = |field: &str| event[field].as_str().unwrap_or_default().to_owned();
        match event["event"].as_str() {
            Some("answer") => Ok(event["payload"].clone()),
            Some("error") => {
                Err(CallError { code: text("code"), description: text("description") })
            }
            _ => panic!("the call failed: {event}"),
        }
    }

    /// The answer to a call, if it comes in time and the connection does not end before.
    pub(crate) fn answer_within(&self, pending: Pending, within: Duration) -> Option<Value> {
        let of_it = |event: &Value| (event["request"] == pending.0).then(|| event.clone());
        let event = self.find_within(within, 1, of_it)?;
        (event["event"] == "answer").then(|| event["payload"].clone())
    }

    /// The message ids of the calls of that action that have come, with their payloads.
    pub(crate) fn named_calls(&self, action: &str) -> Vec<(String, Value)> {
        let events = self.heard.events.lock().unwrap();
        let named = |frame: Value| {
            let is_it = frame[0] == 2 && frame[2] == action;
            is_it.then(|| (frame[1].as_str().unwrap().to_owned(), frame[3].clone()))
        };
        events.iter().filter_map(frame_of).filter_map(named).collect()
    }

    /// A text frame as it is.
    pub(crate) fn send_frame(&self, text: &str) {
        self.command(json!({"do": "send", "text": text}));
    }

    /// A WebSocket ping, answered.
    #[track_caller]
    pub(crate) fn ping(&self) {
        let request = self.command(json!({"do": "ping"}));
        self.reply_to(request);
    }

    /// The answer to a frame that was sent as it is: the first frame with that message id.
    #[track_caller]
    pub(crate) fn frame_under(&self, message_id: &str) -> Value {
        self.wait(&format!("a frame under {message_id}"), 1, |event| {
            frame_of(event).filter(|frame| frame[1] == message_id && frame[0] != 2)
        })
    }

    /// All frames with that message id that have come.
    pub(crate) fn frames_under(&self, message_id: &str) -> Vec<Value> {
        let events = self.heard.events.lock().unwrap();
        events.iter().filter_map(frame_of).filter(|frame| frame[1] == message_id).collect()
    }

    #[track_caller]
    pub(crate) fn boot(&self) -> Value {
        self.call(
            "BootNotification",
            json!({"chargePointVendor": "Leftfold", "chargePointModel": "Tester"}),
        )
    }

    #[track_caller]
    pub(crate) fn heartbeat(&self) {
        self.call("Heartbeat", json!({}));
    }

    #[track_caller]
    pub(crate) fn status(&self, connector_id: u32, status: &str) {
        self.call(
            "StatusNotification",
            json!({"connectorId": connector_id, "errorCode": "NoError", "status": status}),
        );
    }

    #[track_caller]
    pub(crate) fn authorize(&self, id_tag: &str) -> String {
        let answer = self.call("Authorize", json!({"idTag": id_tag}));
        answer["idTagInfo"]["status"].as_str().unwrap().to_owned()
    }

    /// Starts a transaction; the answer has its id.
    #[track_caller]
    pub(crate) fn start(&self, connector_id: u32, id_tag: &str) -> i64 {
        self.call("StartTransaction", start(connector_id, id_tag))["transactionId"]
            .as_i64()
            .unwrap()
    }

    /// Stops a transaction that used 1500 Wh.
    #[track_caller]
    pub(crate) fn stop(&self, transaction_id: i64) -> Value {
        self.call("StopTransaction", stop(transaction_id))
    }
}

/// What the payload of a StartTransaction is unless a test says otherwise.
pub(crate) fn start(connector_id: u32, id_tag: &str) -> Value {
    json!({"connectorId": connector_id, "idTag": id_tag, "meterStart": 1000, "timestamp": now()})
}

/// The StopTransaction to [`start`].
pub(crate) fn stop(transaction_id: i64) -> Value {
    json!({"transactionId": transaction_id, "meterStop": 2500, "timestamp": now()})
}

/// A MeterValues of one value of the energy register.
pub(crate) fn meter_values(connector_id: u32, transaction_id: i64, energy_wh: i64) -> Value {
    let sample = json!({"value": energy_wh.to_string(), "measurand": "Energy.Active.Import.Register", "unit": "Wh"});
    let values = json!([{"timestamp": now(), "sampledValue": [sample]}]);
    json!({"connectorId": connector_id, "transactionId": transaction_id, "meterValue": values})
}

/// The moment as a station writes it, to the millisecond.
pub(crate) fn now() -> String {
    jiff::Timestamp::now().round(jiff::Unit::Millisecond).unwrap().to_string()
}

/// What the server asks of it.
impl Station {
    /// How calls of this action are answered from now on.
    pub(crate) fn on(&self, action: &str, policy: &Policy) {
        let mut command = json!({"do": "policy", "action": action});
        match policy {
            Policy::Answer(status) => command["status"] = json!(status),
            Policy::Payload(payload) => command["payload"] = payload.clone(),
            Policy::Hold => command["hold"] = json!(true),
            Policy::Error(code) => command["error"] = json!(code),
        }
        self.command(command);
    }

    /// Answers the oldest held call of that action.
    pub(crate) fn release(&self, action: &str, status: &str) {
        self.command(json!({"do": "release", "action": action, "status": status}));
    }

    /// The payload of the nth call of that action that it receives, counted from 1.
    #[track_caller]
    pub(crate) fn expect_call(&self, action: &str, nth: usize) -> Value {
        self.wait(&format!("call {nth} of {action}"), nth, |event| call_of(event, action))
    }

    /// The payloads of all calls of that action that had been sent to it when it asked: it asks
    /// something itself first, and all that was sent before the answer has arrived with it.
    #[track_caller]
    pub(crate) fn calls(&self, action: &str) -> Vec<Value> {
        self.heartbeat();
        self.calls_so_far(action)
    }

    /// The number of the [`calls`](Self::calls).
    #[track_caller]
    pub(crate) fn count_calls(&self, action: &str) -> usize {
        self.calls(action).len()
    }

    /// The payloads of the calls of that action that were read from its pipe: all of them if the
    /// end of its connection was, and otherwise perhaps not the latest.
    pub(crate) fn calls_so_far(&self, action: &str) -> Vec<Value> {
        let events = self.heard.events.lock().unwrap();
        events.iter().filter_map(|event| call_of(event, action)).collect()
    }
}

/// The pipe to the process.
impl Station {
    fn command(&self, mut command: Value) -> u64 {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        command["request"] = json!(request);
        let sent = writeln!(self.commands.lock().unwrap(), "{command}");
        sent.unwrap_or_else(|error| {
            panic!("{} does not listen: {error}; see its traceback above", self.identity)
        });
        request
    }

    #[track_caller]
    fn reply_to(&self, request: u64) -> Value {
        self.wait("the end of a command", 1, |event| {
            (event["request"] == request).then(|| event.clone())
        })
    }

    /// What is found in the nth event in which it is found.
    #[track_caller]
    fn wait<T>(&self, what: &str, nth: usize, find: impl Fn(&Value) -> Option<T>) -> T {
        self.find_within(PATIENCE, nth, find)
            .unwrap_or_else(|| panic!("{} waited {PATIENCE:?} for {what}", self.identity))
    }

    /// What is found in the nth event in which it is found, if it comes in time.
    fn find_within<T>(
        &self,
        within: Duration,
        nth: usize,
        find: impl Fn(&Value) -> Option<T>,
    ) -> Option<T> {
        let end = Instant::now() + within;
        let mut events = self.heard.events.lock().unwrap();
        loop {
            if let Some(found) = events.iter().filter_map(&find).nth(nth - 1) {
                return Some(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            events = self.heard.more.wait_timeout(events, left).unwrap().0;
        }
    }
}

impl Heard {
    fn listen(&self, stdout: impl Read) {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let event =
                serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line}"));
            self.events.lock().unwrap().push(event);
            self.more.notify_all();
        }
    }
}

fn frame_of(event: &Value) -> Option<Value> {
    serde_json::from_str(event["text"].as_str()?).ok()
}

fn call_of(event: &Value, action: &str) -> Option<Value> {
    let frame = frame_of(event)?;
    (frame[0] == 2 && frame[2] == action).then(|| frame[3].clone())
}

impl Drop for Station {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if thread::panicking() {
            let events = self.heard.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let shown: Vec<String> = events.iter().map(Value::to_string).collect();
            eprintln!("--- what {} reported ---\n{}", self.identity, shown.join("\n"));
        }
    }
}
