//! Replay of frames from files, each by a station of its own, all side by side.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::books::{BookedTransaction, Books, BooksError};
use super::comparison::TOLERANCE_WH;
use super::habits::Habits;
use super::line::{Dialer, StationLine};
use super::script::{FrameScript, ScriptSession, ScriptStep};

/// Time in which one frame is to be answered, whatever happens to the server meanwhile.
const FRAME_WITHIN: Duration = Duration::from_secs(60);
/// Time after which a frame without an answer is sent again.
const REPEAT_AFTER: Duration = Duration::from_secs(10);
/// Pause before a station connects again.
const RECONNECT_AFTER: Duration = Duration::from_millis(50);
/// Looks at the books until they agree, and the pause between two of them.
const LOOKS_MAX: u32 = 6;
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(250);

/// Report of a replay.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplayReport {
    pub(crate) files: Vec<ReplayedFile>,
}

/// A file that was replayed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReplayedFile {
    pub(crate) name: String,
    pub(crate) station: String,
    pub(crate) frames: usize,
    /// Frames that were sent again.
    pub(crate) repeated: usize,
    /// Differences from what the file says; none if all is as it says.
    pub(crate) differences: Vec<String>,
}

impl ReplayReport {
    /// Tells whether everything is as the files say.
    #[must_use]
    pub fn agrees(&self) -> bool {
        self.files.iter().all(|file| file.differences.is_empty())
    }

    /// Returns the report as JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        // Plain numbers and texts cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }
}

impl std::fmt::Display for ReplayReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for file in &self.files {
            let verdict = if file.differences.is_empty() { "as it says" } else { "DIFFERS" };
            writeln!(f, "{:32} {:3} frames, {verdict}", file.name, file.frames)?;
            for difference in &file.differences {
                writeln!(f, "  {difference}")?;
            }
        }
        Ok(())
    }
}

/// Moment at which all stations wait for a line of standard input, so that something can be done to
/// the server between two frames.
#[derive(Clone)]
struct Halt {
    /// Number of the frame before which they wait, from 1; `None` for no halt.
    before: Option<usize>,
    arrived: Arc<watch::Sender<usize>>,
    released: watch::Receiver<bool>,
}

/// Replays scripts, and compares the books with what they say.
pub(crate) async fn replay(
    scripts: Vec<FrameScript>,
    dialer: &Dialer,
    books: &mut Books,
    prefix: &str,
    halt_before: Option<usize>,
) -> Result<ReplayReport, BooksError> {
    let all = scripts.len();
    let (release, released) = watch::channel(halt_before.is_none());
    let halt = Halt { before: halt_before, arrived: Arc::new(watch::Sender::new(0)), released };
    let mut arrivals = halt.arrived.subscribe();
    let mut tasks = JoinSet::new();
    for (at, script) in scripts.into_iter().enumerate() {
        let station = format!("{prefix}{}", script.name);
        let player = Player {
            line: None,
            dialer: dialer.clone(),
            station,
            ids: HashMap::new(),
            repeated: 0,
            differences: Vec::new(),
        };
        let halt = halt.clone();
        tasks.spawn(async move { (at, player.play(&script, halt).await, script) });
    }
    if halt_before.is_some() {
        // The sender is ours, so it never closes.
        let _ = arrivals.wait_for(|arrived| *arrived >= all).await;
        eprintln!("halted; send a line to go on");
        // The end of the input is as good as a line.
        let read = || std::io::stdin().read_line(&mut String::new());
        let _ = tokio::task::spawn_blocking(read).await;
        release.send_replace(true);
    }
    let mut played = Vec::with_capacity(all);
    while let Some(joined) = tasks.join_next().await {
        played.extend(joined.ok());
    }
    played.sort_by_key(|(at, ..)| *at);
    let mut files = Vec::with_capacity(all);
    for (_, mut player, script) in played {
        let found = player.compare(&script, books).await?;
        player.differences.extend(found);
        files.push(ReplayedFile {
            name: script.name,
            station: player.station,
            frames: script.steps.iter().filter(|step| **step != ScriptStep::Reconnect).count(),
            repeated: player.repeated,
            differences: player.differences,
        });
    }
    Ok(ReplayReport { files })
}

/// Station that plays a script.
struct Player {
    line: Option<StationLine>,
    dialer: Dialer,
    station: String,
    /// Ids that the server gave, by their names in the script.
    ids: HashMap<String, i64>,
    repeated: usize,
    differences: Vec<String>,
}

impl Player {
    async fn play(mut self, script: &FrameScript, mut halt: Halt) -> Self {
        let mut frames = 0;
        for step in &script.steps {
            match step {
                ScriptStep::Reconnect => self.line = None,
                ScriptStep::Call { id, action, payload, answer } => {
                    frames += 1;
                    if halt.before == Some(frames) {
                        halt.arrived.send_modify(|arrived| *arrived += 1);
                        let _ = halt.released.wait_for(|released| *released).await;
                    }
                    let payload = self.with_ids(payload);
                    match self.ask(id, action, &payload).await {
                        Some(got) => {
                            if let Some(expected) = answer {
                                self.check(id, expected, &got);
                            }
                        }
                        None => {
                            let difference = format!("{action} {id} was never answered");
                            self.differences.push(difference);
                            break;
                        }
                    }
                }
            }
        }
        if halt.before > Some(frames) {
            halt.arrived.send_modify(|arrived| *arrived += 1);
            let _ = halt.released.wait_for(|released| *released).await;
        }
        self.line = None;
        self
    }

    fn with_ids(&self, payload: &Value) -> Value {
        let mut payload = payload.clone();
        if let Some(name) = payload["transactionId"].as_str()
            && let Some(id) = self.ids.get(name)
        {
            payload["transactionId"] = (*id).into();
        }
        payload
    }

    /// Sends a frame until it is answered; `None` if that takes too long.
    async fn ask(&mut self, id: &str, action: &str, payload: &Value) -> Option<Value> {
        let deadline = Instant::now() + FRAME_WITHIN;
        let mut tries = 0_u32;
        while Instant::now() < deadline {
            let sent_id = if tries == 0 { id.to_owned() } else { format!("{id}-again-{tries}") };
            let Some(mut line) = self.connected().await else {
                tokio::time::sleep(RECONNECT_AFTER).await;
                continue;
            };
            if tries > 0 {
                self.repeated += 1;
            }
            tries += 1;
            let frame = json!([2, sent_id, action, payload]).to_string();
            let exchange = exchange(&mut line, frame, &sent_id);
            if let Ok(Some(answer)) = tokio::time::timeout(REPEAT_AFTER, exchange).await {
                self.line = Some(line);
                return Some(answer);
            }
        }
        None
    }

    async fn connected(&mut self) -> Option<StationLine> {
        match self.line.take() {
            Some(line) => Some(line),
            None => self.dialer.connect(&self.station, Habits::default()).await.ok(),
        }
    }

    /// Checks an answer, and learns the ids in it.
    fn check(&mut self, id: &str, expected: &Value, got: &Value) {
        let Some(members) = expected.as_object() else { return };
        for (member, wanted) in members {
            let found = &got[member];
            let is_right = match wanted.as_str().filter(|name| name.starts_with('$')) {
                None => includes(found, wanted),
                Some(name) => match (self.ids.get(name), found.as_i64()) {
                    (Some(known), Some(found)) => *known == found,
                    (None, Some(found)) if !self.ids.values().any(|known| *known == found) => {
                        self.ids.insert(name.to_owned(), found);
                        true
                    }
                    _ => false,
                },
            };
            if !is_right {
                let difference = format!("the answer to {id} has {member} {found}, not {wanted}");
                self.differences.push(difference);
            }
        }
    }

    /// Compares the books with the sessions of the script, again for a while if they differ.
    async fn compare(
        &self,
        script: &FrameScript,
        books: &mut Books,
    ) -> Result<Vec<String>, BooksError> {
        let mut looks = 0;
        loop {
            let booked = books.of_station(&self.station).await?;
            let found = self.differences_of(&script.sessions, &booked);
            looks += 1;
            if found.is_empty() || looks >= LOOKS_MAX {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_AGAIN_AFTER).await;
        }
    }

    fn differences_of(
        &self,
        sessions: &[ScriptSession],
        booked: &[BookedTransaction],
    ) -> Vec<String> {
        let mut left: Vec<&BookedTransaction> = booked.iter().collect();
        let mut found = Vec::new();
        for session in sessions {
            let id = session.id.as_ref().and_then(|name| self.ids.get(name)).copied();
            let is_it = |booked: &&BookedTransaction| match id {
                Some(id) => booked.id == id,
                None => session.reported_id.is_some_and(|reported| {
                    booked.reported_id == Some(reported) || booked.id == reported
                }),
            };
            let name = session.id.as_deref().unwrap_or("untold");
            match left.iter().position(is_it) {
                Some(at) => found.extend(differences(name, session, left.swap_remove(at))),
                None => found.push(format!(
                    "session {name} on connector {} of {:?} Wh is missing",
                    session.connector_id, session.energy_wh
                )),
            }
        }
        // A start that came again after its reply was lost may be there twice.
        let repeats = booked.iter().filter(|booked| booked.is_possible_repeat()).count();
        let invented = left.into_iter().skip(repeats);
        found.extend(invented.map(|booked| {
            format!("transaction {} of {:?} Wh was no session", booked.id, booked.energy_wh)
        }));
        found
    }
}

fn differences(name: &str, session: &ScriptSession, booked: &BookedTransaction) -> Vec<String> {
    let mut found = Vec::new();
    let is_right = match (session.energy_wh, booked.energy_wh) {
        (Some(wanted), Some(wh)) => (wanted - wh).abs() <= TOLERANCE_WH,
        (wanted, wh) => wanted == wh,
    };
    if !is_right {
        let (wanted, wh) = (session.energy_wh, booked.energy_wh);
        found.push(format!("session {name} has {wanted:?} Wh, transaction {} {wh:?}", booked.id));
    }
    if booked.state != session.state {
        let state = &booked.state;
        found.push(format!(
            "session {name} is {}, transaction {} {state}",
            session.state, booked.id
        ));
    }
    for flag in session.flags.iter().filter(|flag| !booked.is_flagged(flag)) {
        found.push(format!("session {name} is not flagged as {flag}"));
    }
    found
}

/// Tells whether a value has all that is wanted, and perhaps more.
fn includes(found: &Value, wanted: &Value) -> bool {
    match wanted.as_object() {
        Some(members) => members.iter().all(|(name, wanted)| includes(&found[name], wanted)),
        None => found == wanted,
    }
}

/// Sends a call and returns the payload of its answer; `None` if the connection ends before. Calls
/// of the server are refused meanwhile.
async fn exchange(line: &mut StationLine, frame: String, id: &str) -> Option<Value> {
    line.send(frame).await.ok()?;
    loop {
        let text = line.receive().await?;
        let Ok(frame) = serde_json::from_str::<Value>(&text) else { continue };
        match frame[0].as_u64() {
            Some(2) => {
                let refusal = json!([4, frame[1], "NotSupported", "a replay answers nothing", {}]);
                line.send(refusal.to_string()).await.ok()?;
            }
            Some(3) if frame[1] == id => return Some(frame[2].clone()),
            Some(4) if frame[1] == id => return Some(json!({ "refused": frame[2] })),
            _ => {}
        }
    }
}
