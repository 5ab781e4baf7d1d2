//! `leftfold retry`, `skip`, `resolve`, `cancel`, `requests` and `withdraw`: what a person asks of
//! the application on a store.

use std::time::Duration;

use clap::Args;
use leftfold::runtime::operator::{
    NewRequest, OperatorAction, OperatorError, OperatorRequestId, OperatorRequests, ParkedChoice,
    RequestFilter, RequestState, RequestStatus,
};
use leftfold::runtime::{EffectId, Verdict};
use leftfold::store::{Kind, Position};
use serde_json::{Value, json};

use crate::access::StoreArgument;
use crate::failure::CliFailure;
use crate::screen::{Screen, Side, TextTable, counted};

/// Seconds that an answer is waited for, if the call says nothing else.
const WAIT_SECONDS: u64 = 10;

/// Name of whoever asks, and the reason.
#[derive(Clone, Debug, Args)]
pub(crate) struct PersonArguments {
    /// Reason, for those who read it later
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Your name; if not given, that of the user in the URL
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
}

/// Name of whoever asks, and the runtime that is to do it.
#[derive(Clone, Debug, Args)]
pub(crate) struct AskArguments {
    #[command(flatten)]
    person: PersonArguments,
    /// Only the runtime of this name is to do it: a read model that is kept on each machine is
    /// another one on each
    #[arg(long, value_name = "NAME")]
    runtime: Option<String>,
    /// Seconds to wait for the answer; with 0 the call ends when the request is durable
    #[arg(long, value_name = "SECONDS", default_value_t = WAIT_SECONDS)]
    wait: u64,
}

/// Items that are parked.
#[derive(Clone, Debug, Args)]
pub(crate) struct ItemArguments {
    /// Only those of this instance of a process, or of these rows
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Only those of this stream
    #[arg(long, value_name = "NAME")]
    stream: Option<String>,
    /// Only the one at this position
    #[arg(long, value_name = "N")]
    position: Option<u64>,
    /// Only those whose reason contains this text
    #[arg(long, value_name = "TEXT")]
    saying: Option<String>,
}

impl ItemArguments {
    fn choice(&self) -> ParkedChoice {
        ParkedChoice {
            key: self.key.clone(),
            stream: self.stream.clone(),
            position: self.position.map(Position),
            saying: self.saying.clone(),
        }
    }
}

/// Has parked items tried again
///
/// The application tries what its process, inbox, outbox or read model has parked, in order, each
/// key up to the first item that fails again. The request is a record in the store: an application
/// that is started later takes it up.
#[derive(Debug, Args)]
pub(crate) struct RetryArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Name of the process, inbox, outbox or read model
    consumer: String,
    #[command(flatten)]
    parked: ItemArguments,
    #[command(flatten)]
    ask: AskArguments,
}

/// Has parked items let go, for good
///
/// They are never reacted to, sent or put into rows, and the record of that names you.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("chosen").required(true).multiple(true)
    .args(["key", "stream", "position", "saying", "all"]))]
pub(crate) struct SkipArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Name of the process, inbox, outbox or read model
    consumer: String,
    /// All that it has parked
    #[arg(long, conflicts_with_all = ["key", "stream", "position", "saying"])]
    all: bool,
    #[command(flatten)]
    parked: ItemArguments,
    #[command(flatten)]
    ask: AskArguments,
}

/// Says what became of an effect in doubt
///
/// The application records it, and tells the aggregate as of any outcome. It is taken after the
/// deadline of the attempt: before, it may still happen.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("verdict").required(true)
    .args(["happened", "did_not_happen"]))]
pub(crate) struct ResolveArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Id of the effect, as `leftfold effects` shows it
    effect: u64,
    /// It happened, and this came of it: the outcome of the effect as JSON
    #[arg(long, value_name = "JSON", num_args = 0..=1, default_missing_value = "null")]
    happened: Option<String>,
    /// It did not happen
    #[arg(long)]
    did_not_happen: bool,
    #[command(flatten)]
    ask: AskArguments,
}

/// Says that an effect is not wanted any more
///
/// It is not begun then, and the aggregate is told that it did not take place. One that is under
/// way or in doubt is not cancelled.
#[derive(Debug, Args)]
pub(crate) struct CancelArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Id of the effect: the position of the event that asks for it
    effect: u64,
    #[command(flatten)]
    ask: AskArguments,
}

/// Lists what people have asked of the application, and the answers
#[derive(Debug, Args)]
pub(crate) struct RequestsArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Lists those that were answered or withdrawn, too
    #[arg(long)]
    all: bool,
}

/// Takes a request back that was not answered
#[derive(Debug, Args)]
pub(crate) struct WithdrawArguments {
    #[command(flatten)]
    store: StoreArgument,
    /// Id of the request, as `leftfold requests` shows it
    request: String,
    #[command(flatten)]
    person: PersonArguments,
}

pub(crate) async fn retry(
    arguments: &RetryArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let (consumer, parked) = (arguments.consumer.clone(), arguments.parked.choice());
    let action = OperatorAction::Retry { consumer, parked };
    ask(&arguments.store, action, &arguments.ask, screen).await
}

pub(crate) async fn skip(arguments: &SkipArguments, screen: &mut Screen) -> Result<(), CliFailure> {
    let (consumer, parked) = (arguments.consumer.clone(), arguments.parked.choice());
    let action = OperatorAction::Skip { consumer, parked };
    ask(&arguments.store, action, &arguments.ask, screen).await
}

pub(crate) async fn resolve(
    arguments: &ResolveArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let verdict = match &arguments.happened {
        Some(outcome) => Verdict::Done(serde_json::from_str(outcome).map_err(|error| {
            CliFailure::Usage(format!("--happened takes the outcome as JSON: {error}"))
        })?),
        None => Verdict::NotDone { reason: arguments.ask.person.reason.clone() },
    };
    let action = OperatorAction::Conclude { effect: EffectId(Position(arguments.effect)), verdict };
    ask(&arguments.store, action, &arguments.ask, screen).await
}

pub(crate) async fn cancel(
    arguments: &CancelArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let action = OperatorAction::Cancel { effect: EffectId(Position(arguments.effect)) };
    ask(&arguments.store, action, &arguments.ask, screen).await
}

pub(crate) async fn requests(
    arguments: &RequestsArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let store = arguments.store.open_to_read().await?;
    let which = if arguments.all { RequestFilter::All } else { RequestFilter::Open };
    let left = Side::Left;
    let heads = [("request", left), ("asked", left), ("by", left), ("what", left)];
    let mut table = TextTable::new(&[&heads[..], &[("reason", left), ("state", left)]].concat());
    let (mut number, mut written) = (0, Ok(()));
    OperatorRequests::of(&store)
        .each(which, |status| {
            number += 1;
            if screen.is_json() {
                if written.is_ok() {
                    written = screen.object(&object(&status));
                }
                return;
            }
            let (what, state) = (described(&status.request.action), told(&status.state));
            let (asked, by) = (screen.time(status.asked_at), author(&status));
            let reason = status.request.reason;
            table.row(vec![status.id.to_string(), asked, by, what, reason, state]);
        })
        .await?;
    written?;
    if !table.is_empty() {
        screen.table(&table)?;
    }
    screen.note(&counted(number, "request"))
}

pub(crate) async fn withdraw(
    arguments: &WithdrawArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let id: OperatorRequestId = arguments.request.parse()?;
    let by = arguments.store.person(arguments.person.name.as_deref())?;
    let store = arguments.store.open_to_write().await?;
    let requests = OperatorRequests::of(&store);
    requests.withdraw(id, &by, &arguments.person.reason).await?;
    let status = requests.find(id).await?;
    store.close().await?;
    show(status, screen)
}

/// Asks, waits for the answer, and tells it.
async fn ask(
    place: &StoreArgument,
    action: OperatorAction,
    ask: &AskArguments,
    screen: &mut Screen,
) -> Result<(), CliFailure> {
    let by = place.person(ask.person.name.as_deref())?;
    // Whoever writes a directory is alone with it, so nobody would answer.
    let is_alone = place.directory()?.is_some();
    let store = place.open_to_write().await?;
    let requests = OperatorRequests::of(&store);
    let (reason, runtime) = (ask.person.reason.clone(), ask.runtime.clone());
    let id = requests.ask(NewRequest { action, by, reason, runtime }).await?;
    let within = Duration::from_secs(if is_alone { 0 } else { ask.wait });
    let status = match within.is_zero() {
        true => requests.find(id).await,
        false => requests.wait(id, within).await,
    };
    let status = status.map_err(|error| {
        CliFailure::Failed(format!("it is asked as {id}, and the answer cannot be read: {error}"))
    })?;
    store.close().await?;
    let state = status.as_ref().map(|status| status.state.clone());
    show(status, screen)?;
    screen.flush()?;
    match state {
        Some(RequestState::Done { failing, .. }) if !failing.is_empty() => {
            Err(CliFailure::Failed(format!("it fails again: {}", failing.join("; "))))
        }
        Some(RequestState::Refused { reason, .. }) => Err(CliFailure::Failed(reason)),
        Some(RequestState::Open) if is_alone => screen.note(
            "the application takes it when it is started; see `leftfold requests`, or withdraw it",
        ),
        Some(RequestState::Open) if ask.wait > 0 => Err(CliFailure::InDoubt(format!(
            "no runtime has taken it in {} s: look with `leftfold consumers` whether one runs that \
             has the code, and with `leftfold requests` whether it was taken since",
            ask.wait
        ))),
        _ => Ok(()),
    }
}

fn show(status: Option<RequestStatus>, screen: &mut Screen) -> Result<(), CliFailure> {
    let Some(status) = status else { return Ok(()) };
    if screen.is_json() {
        return screen.object(&object(&status));
    }
    let asked = format!("{} asked as {}", described(&status.request.action), status.id);
    screen.line(format!("{asked}: {}", told(&status.state)))
}

/// The person, and the user of the server if that is another name.
fn author(status: &RequestStatus) -> String {
    match &status.caller {
        Some(caller) if *caller != status.request.by => {
            format!("{} ({caller})", status.request.by)
        }
        _ => status.request.by.clone(),
    }
}

fn described(action: &OperatorAction) -> String {
    let parked = |parked: &ParkedChoice| {
        let ParkedChoice { key, stream, position, saying } = parked;
        let parts = [
            key.as_ref().map(|key| format!(" of {key}")),
            stream.as_ref().map(|stream| format!(" of stream {stream}")),
            position.map(|position| format!(" at {position}")),
            saying.as_ref().map(|saying| format!(" saying {saying:?}")),
        ];
        parts.into_iter().flatten().collect::<String>()
    };
    match action {
        OperatorAction::Retry { consumer, parked: of } => format!("retry {consumer}{}", parked(of)),
        OperatorAction::Skip { consumer, parked: of } => format!("skip {consumer}{}", parked(of)),
        OperatorAction::Conclude { effect, verdict: Verdict::Done(outcome) } => {
            format!("effect {effect} happened: {outcome}")
        }
        OperatorAction::Conclude { effect, verdict: Verdict::NotDone { .. } } => {
            format!("effect {effect} did not happen")
        }
        OperatorAction::Cancel { effect } => format!("cancel effect {effect}"),
        OperatorAction::List { consumer: Some(name), .. } => format!("list parked of {name}"),
        OperatorAction::List { consumer: None, .. } => "list parked".to_owned(),
    }
}

fn told(state: &RequestState) -> String {
    match state {
        RequestState::Open => "not taken so far".to_owned(),
        RequestState::Done { runtime, number, failing, at } => {
            let rest = match failing.len() {
                0 => String::new(),
                number => format!(", {number} fail again"),
            };
            format!("done by {runtime} at {at}: {number}{rest}")
        }
        RequestState::Listed { runtime, items, at, .. } => {
            format!("listed by {runtime} at {at}: {}", items.len())
        }
        RequestState::Refused { runtime, reason, at } => {
            format!("refused by {runtime} at {at}: {reason}")
        }
        RequestState::Withdrawn { by, reason, at } => {
            format!("withdrawn by {by} at {at}: {reason}")
        }
    }
}

fn object(status: &RequestStatus) -> Value {
    let NewRequest { action, by, reason, runtime } = &status.request;
    let state = match &status.state {
        RequestState::Open => json!({"state": "open"}),
        RequestState::Done { runtime, number, failing, at } => json!({
            "state": "done", "by": runtime, "number": number, "failing": failing,
            "at": at.to_string(),
        }),
        RequestState::Listed { runtime, items, has_more, at } => json!({
            "state": "listed", "by": runtime, "items": items, "more": has_more,
            "at": at.to_string(),
        }),
        RequestState::Refused { runtime, reason, at } => json!({
            "state": "refused", "by": runtime, "reason": reason, "at": at.to_string(),
        }),
        RequestState::Withdrawn { by, reason, at } => json!({
            "state": "withdrawn", "by": by, "reason": reason, "at": at.to_string(),
        }),
    };
    json!({
        "request": status.id.to_string(),
        "position": status.position.0,
        "askedAt": status.asked_at.to_string(),
        "by": by,
        "caller": status.caller,
        "reason": reason,
        "runtime": runtime,
        "action": action,
        "answer": state,
    })
}

impl From<OperatorError> for CliFailure {
    fn from(error: OperatorError) -> Self {
        match error.kind() {
            Kind::Invalid => Self::Usage(error.to_string()),
            Kind::InDoubt => Self::InDoubt(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
