//! Handle of processes: their status for people, who retry or skip parked triggers.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::{mpsc, oneshot};

use super::Refused;
use super::instance::category;
use super::record::{ParkedRecord, ProcessEvent, ReactionRecord, StoredCause};
use super::whose::Whose;
use crate::fold::{LoadError, Schema, Unknown};
use crate::runtime::consumer::AskError;
use crate::store::{Position, Query, Read, Store, StreamName, Timestamp, Version};

/// A request of a person to a runner.
pub(crate) struct ProcessRequest {
    pub(super) what: RequestedAction,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Number of triggers that were concluded, or the reason that none was.
pub(super) type Answer = Result<usize, AskError>;

/// Request of a person.
#[derive(Clone, Debug)]
pub(super) enum RequestedAction {
    Retry(Whose),
    Skip { which: VecDeque<(Whose, Position)>, by: String },
}

/// A trigger that waits for a person, or behind one that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParkedTrigger {
    /// Instance or stream that it is parked for.
    pub whose: Whose,
    /// The event; of a timer, a refusal or a command, the reaction that set the timer or issued the
    /// command; of a record of the process that cannot be read, that record.
    pub position: Position,
    /// The stream of the aggregate, if it is a command that cannot be carried out, or waits behind
    /// one.
    pub command_for: Option<String>,
    /// Reason, for people; `None` if it only waits behind another one.
    pub error: Option<String>,
    /// Time at which it was parked.
    pub since: Timestamp,
}

/// Choice of parked triggers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "say what is to be done with them, with retry_all or skip_all"]
pub struct ParkedFilter {
    whose: Option<Whose>,
    said: Option<String>,
    through: Option<Position>,
    at: Option<Position>,
    parked_until: Option<Position>,
}

impl ParkedFilter {
    /// Every one.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those of one instance or stream.
    pub fn of(mut self, whose: Whose) -> Self {
        self.whose = Some(whose);
        self
    }

    /// Only those whose error contains a text. Triggers that only wait behind one of them are not
    /// meant.
    pub fn saying(mut self, text: impl Into<String>) -> Self {
        self.said = Some(text.into());
        self
    }

    /// Only those up to a position.
    pub fn through(mut self, position: Position) -> Self {
        self.through = Some(position);
        self
    }

    /// Only the one at a position. Triggers that wait behind it are not meant.
    pub fn at(mut self, position: Position) -> Self {
        self.at = Some(position);
        self
    }

    /// Only those that were parked by a record up to a position.
    pub(in crate::runtime) fn parked_until(mut self, position: Position) -> Self {
        self.parked_until = Some(position);
        self
    }

    fn admits(&self, trigger: &ParkedTrigger) -> bool {
        let says = |text: &String| {
            trigger.error.as_ref().is_some_and(|error| error.contains(text.as_str()))
        };
        self.whose.as_ref().is_none_or(|whose| *whose == trigger.whose)
            && self.said.as_ref().is_none_or(says)
            && self.through.is_none_or(|through| trigger.position <= through)
            && self.at.is_none_or(|at| trigger.position == at)
    }
}

/// Result of retrying many parked triggers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetriedAll {
    /// Number of triggers that were reacted to, or commands that were carried out.
    pub done: usize,
    /// The triggers that failed again: owner, position and reason. Those behind them wait on.
    pub failing: Vec<(Whose, Position, String)>,
}

/// State of one instance, read from the log.
#[derive(Clone, Debug, PartialEq)]
pub struct InstanceStatus {
    /// Its key.
    pub key: String,
    /// True if it was started and has not ended.
    pub is_open: bool,
    /// Number of triggers it reacted to.
    pub reactions: u64,
    /// The timers that are set, and when they are due.
    pub timers: BTreeMap<String, Timestamp>,
    /// The commands that were refused, the oldest first, at most the last 100.
    pub refused: Vec<Refused>,
    /// Time of its last reaction.
    pub last: Option<Timestamp>,
}

/// Some of the instances of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct InstancePage {
    /// The instances.
    pub instances: Vec<InstanceStatus>,
    /// Position after which the next page begins; `None` at the end.
    pub next: Option<Position>,
}

impl ProcessRequest {
    pub(super) fn take(self) -> (RequestedAction, oneshot::Sender<Answer>) {
        (self.what, self.answer)
    }
}

/// All processes of a runtime. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Processes {
    pub(crate) store: Store,
    pub(crate) asked: BTreeMap<&'static str, mpsc::Sender<ProcessRequest>>,
}

/// Instances in one page.
const INSTANCES_PER_PAGE_MAX: usize = 1_000;
/// Refusals that a status shows.
const REFUSED_MAX: usize = 100;

impl Processes {
    /// Returns the state of an instance; `None` if it never began.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod late_payouts {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/late_payouts.rs"));
    /// # }
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::store::{Position, Query, Store};
    /// use late_payouts::LatePayouts;
    /// use wallet::{Payout, Wallet, WalletEvent};
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let store = Store::memory();
    /// let runtime = Runtime::new(&store).process::<LatePayouts>().start().await?;
    /// let payout = Payout { iban: "DE02".to_owned(), cents: 300 };
    /// let asked = [WalletEvent::PayoutRequested(payout)];
    /// store.aggregate::<Wallet>().record("ada", &asked).await?;
    ///
    /// // The reaction is in the instance's own stream.
    /// let reactions = Query::category("$process:late_payouts");
    /// store.subscribe(reactions, Position::START).event().await?;
    /// let instance = runtime.processes().find("late_payouts", "ada").await?.ok_or("it began")?;
    /// assert!(instance.is_open && instance.timers.contains_key("late"));
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    pub async fn find(
        &self,
        process: &str,
        key: &str,
    ) -> Result<Option<InstanceStatus>, LoadError> {
        let stream = StreamName::of(&category(process), key)?;
        let schema = Schema::of::<ProcessEvent>()?;
        let mut status = InstanceStatus {
            key: key.to_owned(),
            is_open: false,
            reactions: 0,
            timers: BTreeMap::new(),
            refused: Vec::new(),
            last: None,
        };
        let mut events = self.store.read(Read::stream(stream, Version(1)));
        let mut known = false;
        while let Some(event) = events.next().await? {
            known = true;
            // A record that cannot be read is listed as parked.
            for own in schema.decode::<ProcessEvent>(&event, Unknown::Ignore).unwrap_or_default() {
                if let ProcessEvent::Reacted(reacted) = own {
                    status.take(reacted);
                    status.last = Some(event.recorded_at);
                }
            }
        }
        Ok(known.then_some(status))
    }

    /// The processes of this runtime.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.asked.keys().copied().collect()
    }

    /// The instances of a process in the order in which they first began, from the first that began
    /// after a position, at most the given number and at most 1,000.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod late_payouts {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/late_payouts.rs"));
    /// # }
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::store::{Position, Store};
    /// use late_payouts::LatePayouts;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::new(&Store::memory()).process::<LatePayouts>().start().await?;
    /// let processes = runtime.processes();
    /// let (mut open, mut after) = (0, Some(Position::START));
    /// while let Some(position) = after {
    ///     let page = processes.instances("late_payouts", position, 100).await?;
    ///     open += page.instances.iter().filter(|instance| instance.is_open).count();
    ///     after = page.next;
    /// }
    /// assert_eq!(open, 0);
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    pub async fn instances(
        &self,
        process: &str,
        after: Position,
        at_most: usize,
    ) -> Result<InstancePage, LoadError> {
        let at_most = at_most.clamp(1, INSTANCES_PER_PAGE_MAX);
        let mut page = InstancePage { instances: Vec::new(), next: None };
        let mut events =
            self.store.read(Read::matching(Query::category(category(process)), after.next()));
        while let Some(event) = events.next().await? {
            let Some(at) = event.stream.as_ref().filter(|at| at.version == Version(1)) else {
                continue;
            };
            page.instances.extend(self.find(process, at.name.id()).await?);
            if page.instances.len() >= at_most {
                page.next = Some(event.position);
                break;
            }
        }
        Ok(page)
    }

    /// Lists the triggers parked in a process, by the instance or stream they are parked for, in
    /// order.
    pub async fn parked(&self, process: &str) -> Result<Vec<ParkedTrigger>, LoadError> {
        self.parked_until(process, Position::END).await
    }

    /// Lists the triggers that were parked by a record up to a position, and still are.
    async fn parked_until(
        &self,
        process: &str,
        until: Position,
    ) -> Result<Vec<ParkedTrigger>, LoadError> {
        let schema = Schema::of::<ProcessEvent>()?;
        let unread = super::parking::unread_category(process);
        let about_parking = super::parking::about_parking(process)?;
        let mut parked: Vec<(ParkedTrigger, StoredCause)> = Vec::new();
        let mut events = self.store.read(Read::matching(about_parking, Position(1)));
        while let Some(event) = events.next().await? {
            let Some(at) = &event.stream else { continue };
            let id = at.name.id().to_owned();
            let whose =
                if at.name.category() == unread { Whose::Stream(id) } else { Whose::Instance(id) };
            // What cannot be read is parked by the runner itself.
            for own in schema.decode::<ProcessEvent>(&event, Unknown::Ignore).unwrap_or_default() {
                match own {
                    ProcessEvent::Parked(ParkedRecord { cause, error, .. })
                        if event.position <= until =>
                    {
                        let (whose, position, since) =
                            (whose.clone(), cause.position(), event.recorded_at);
                        let command_for = match &cause {
                            StoredCause::Command { to, id, .. } => Some(format!("{to}-{id}")),
                            _ => None,
                        };
                        parked.push((
                            ParkedTrigger { whose, position, command_for, error, since },
                            cause,
                        ));
                    }
                    ProcessEvent::Skipped { cause, .. } | ProcessEvent::Unparked { cause } => {
                        let is_it = |(trigger, waiting): &(ParkedTrigger, _)| {
                            trigger.whose == whose && *waiting == cause
                        };
                        if let Some(at) = parked.iter().position(is_it) {
                            parked.remove(at);
                        }
                    }
                    ProcessEvent::Parked(_) | ProcessEvent::Reacted(_) => {}
                }
            }
        }
        parked
            .sort_by(|(a, of_a), (b, of_b)| (&a.whose, of_a.rank()).cmp(&(&b.whose, of_b.rank())));
        Ok(parked.into_iter().map(|(trigger, _)| trigger).collect())
    }

    /// Reacts to the parked triggers, in order, with today's code, and carries out the parked
    /// commands; up to the first that fails again. Returns how many were concluded.
    pub async fn retry(&self, process: &str, whose: &Whose) -> Result<usize, AskError> {
        self.ask(process, RequestedAction::Retry(whose.clone())).await
    }

    /// Lets one trigger go without a reaction, and records the person's name. The triggers behind
    /// it wait on until they are [retried](Processes::retry).
    pub async fn skip(
        &self,
        process: &str,
        whose: &Whose,
        position: Position,
        by: &str,
    ) -> Result<usize, AskError> {
        let which = VecDeque::from([(whose.clone(), position)]);
        self.ask(process, RequestedAction::Skip { which, by: by.to_owned() }).await
    }

    /// [Retries](Processes::retry) for each instance and stream that has a trigger which the filter
    /// admits. One that fails again holds up nobody else.
    ///
    /// ```
    /// # mod wallet { include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/wallet.rs")); }
    /// # mod late_payouts {
    /// #     use super::wallet::*;
    /// #     include!(concat!(env!("CARGO_MANIFEST_DIR"), "/doc/late_payouts.rs"));
    /// # }
    /// use leftfold_core::runtime::Runtime;
    /// use leftfold_core::runtime::process::ParkedFilter;
    /// use leftfold_core::store::Store;
    /// use late_payouts::LatePayouts;
    ///
    /// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let runtime = Runtime::new(&Store::memory()).process::<LatePayouts>().start().await?;
    /// // After a release that fixed an overflow in `apply`.
    /// let fixed = ParkedFilter::all().saying("overflow");
    /// let retried = runtime.processes().retry_all("late_payouts", &fixed).await?;
    /// for (whose, position, reason) in &retried.failing {
    ///     eprintln!("{whose:?} still fails at {position}: {reason}");
    /// }
    /// assert_eq!(retried.done, 0);
    /// runtime.stop().await?;
    /// # Ok(()) }
    /// ```
    pub async fn retry_all(
        &self,
        process: &str,
        which: &ParkedFilter,
    ) -> Result<RetriedAll, AskError> {
        let mut whose: Vec<Whose> =
            self.admitted(process, which).await?.map(|trigger| trigger.whose).collect();
        whose.dedup();
        let mut all = RetriedAll::default();
        for whose in whose {
            // Where some succeed, what fails behind them is reported by another try.
            for _ in 0..2 {
                match self.retry(process, &whose).await {
                    Ok(done) => all.done += done,
                    Err(AskError::FailsAgain { position, why }) => {
                        all.failing.push((whose, position, why));
                        break;
                    }
                    Err(AskError::NotParked { .. }) => break,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(all)
    }

    /// [Skips](Processes::skip) every trigger that the filter admits. How many were.
    pub async fn skip_all(
        &self,
        process: &str,
        which: &ParkedFilter,
        by: &str,
    ) -> Result<usize, AskError> {
        let which: VecDeque<_> = self
            .admitted(process, which)
            .await?
            .map(|trigger| (trigger.whose, trigger.position))
            .collect();
        match self.ask(process, RequestedAction::Skip { which, by: by.to_owned() }).await {
            Err(AskError::NotParked { .. }) => Ok(0),
            skipped => skipped,
        }
    }

    async fn admitted(
        &self,
        process: &str,
        which: &ParkedFilter,
    ) -> Result<impl Iterator<Item = ParkedTrigger>, AskError> {
        if !self.asked.contains_key(process) {
            return Err(AskError::UnknownProcess { name: process.to_owned() });
        }
        let parked = self
            .parked_until(process, which.parked_until.unwrap_or(Position::END))
            .await
            .map_err(|error| AskError::Store { detail: error.to_string() })?;
        Ok(parked.into_iter().filter(|trigger| which.admits(trigger)))
    }

    async fn ask(&self, process: &str, what: RequestedAction) -> Result<usize, AskError> {
        let asks = self
            .asked
            .get(process)
            .ok_or_else(|| AskError::UnknownProcess { name: process.to_owned() })?;
        let (answer, answered) = oneshot::channel();
        asks.send(ProcessRequest { what, answer }).await.map_err(|_| AskError::Stopped)?;
        answered.await.map_err(|_| AskError::Stopped)?
    }
}

impl InstanceStatus {
    fn take(&mut self, reacted: ReactionRecord) {
        self.reactions += 1;
        if reacted.starts {
            self.timers.clear();
            self.is_open = true;
        }
        match &reacted.cause {
            StoredCause::Timer { name, .. } => _ = self.timers.remove(name),
            cause @ StoredCause::Refused { .. } => {
                self.refused.extend(Refused::stored(cause));
                let surplus = self.refused.len().saturating_sub(REFUSED_MAX);
                self.refused.drain(..surplus);
            }
            StoredCause::Event { .. }
            | StoredCause::Command { .. }
            | StoredCause::Record { .. } => {}
        }
        for name in &reacted.cancelled {
            self.timers.remove(name);
        }
        self.timers.extend(reacted.timers.into_iter().map(|timer| (timer.name, timer.due)));
        if reacted.ends {
            self.timers.clear();
            self.is_open = false;
        }
    }
}
