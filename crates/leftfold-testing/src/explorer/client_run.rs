//! The run of one client: it asks for one thing after the other, each until it is answered.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use leftfold_core::drive::{DueClock, HandClock};
use leftfold_core::fold::Answer;
use leftfold_core::runtime::Clock;
use leftfold_core::store::CommandId;

use super::BrokenInvariant;
use super::clients::{AskFuture, ClientAnswer, ClientPlan, ClientStep};
use super::story::AppendAuthor;
use super::task::{Application, Flag};

/// Number of times that a client may ask for the same thing.
const TRIES_MAX: u32 = 100;

/// A client, and what it waits for.
pub(super) struct ClientRun<'p> {
    pub(super) plan: &'p ClientPlan,
    at: usize,
    tries: u32,
    /// Number of the application that it asks; `None` if it waits by itself.
    pub(super) application: Option<usize>,
    asking: Option<AskFuture>,
    pub(super) flag: Arc<Flag>,
}

impl<'p> ClientRun<'p> {
    pub(super) fn new(plan: &'p ClientPlan) -> Self {
        let (application, asking) = (None, None);
        Self { plan, at: 0, tries: 0, application, asking, flag: Flag::raised() }
    }

    /// Lets the client go on with its request, or begin with the next one. Ready if it is answered,
    /// with what a story tells of that; pending if it waits for the answer, or is done.
    pub(super) fn poll(
        &mut self,
        index: usize,
        applications: &[Application],
        clock: &Arc<HandClock>,
    ) -> Result<Poll<Option<String>>, BrokenInvariant> {
        loop {
            if self.asking.is_none() && !self.ask(index, applications, clock) {
                return Ok(Poll::Pending);
            }
            let Some(asking) = &mut self.asking else { return Ok(Poll::Pending) };
            let waker = Waker::from(self.flag.clone());
            let Poll::Ready(answered) = asking.as_mut().poll(&mut Context::from_waker(&waker))
            else {
                return Ok(Poll::Pending);
            };
            let name = &self.plan.name;
            let line = match answered {
                ClientAnswer::Later if self.tries > TRIES_MAX => {
                    return Err(BrokenInvariant::new(
                        "clients are answered",
                        format!("{name} asked {TRIES_MAX} times in vain"),
                    ));
                }
                ClientAnswer::Later => {
                    self.ask_again();
                    continue;
                }
                ClientAnswer::Failed(why) => {
                    return Err(BrokenInvariant::new(
                        "clients are answered",
                        format!("{name}: {}: {why}", self.what()),
                    ));
                }
                ClientAnswer::Refused(why) => {
                    Some(format!("{name}: {} -> refused: {why}", self.what()))
                }
                ClientAnswer::Accepted { answer: Answer::Again, .. } => {
                    Some(format!("{name}: {}, again -> answered as before", self.what()))
                }
                ClientAnswer::Accepted { events: 0, .. } if !self.what().is_empty() => {
                    Some(format!("{name}: {} -> nothing to do", self.what()))
                }
                ClientAnswer::Accepted { .. } => None,
            };
            (self.asking, self.application, self.tries) = (None, None, 0);
            self.at += 1;
            return Ok(Poll::Ready(line));
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.at >= self.plan.requests.len()
    }

    pub(super) fn what(&self) -> &str {
        match self.plan.requests.get(self.at) {
            Some(ClientStep::Ask { what, .. }) => what,
            Some(ClientStep::Wait(_)) | None => "",
        }
    }

    pub(super) fn teller(&self) -> AppendAuthor<'_> {
        AppendAuthor::Client { name: &self.plan.name, what: self.what() }
    }

    pub(super) fn asks(&self, application: usize) -> bool {
        self.application == Some(application)
    }

    pub(super) fn ask_again(&mut self) {
        self.asking = None;
        self.flag.raise();
    }

    /// Begins with the next request, or once more with the one that was not answered. Whether there
    /// is one.
    fn ask(&mut self, index: usize, applications: &[Application], clock: &Arc<HandClock>) -> bool {
        self.tries += 1;
        match self.plan.requests.get(self.at) {
            None => return false,
            Some(ClientStep::Wait(wait)) => {
                let (clock, until) = (DueClock(clock.clone()), clock.now().plus(*wait));
                self.asking = Some(Box::pin(async move {
                    clock.sleep_until(until).await;
                    ClientAnswer::Accepted { events: 0, answer: Answer::First }
                }));
            }
            Some(ClientStep::Ask { ask, .. }) => {
                let application = index % applications.len();
                let id = CommandId::new("explorer", &format!("{} {}", self.plan.name, self.at));
                self.application = Some(application);
                self.asking = Some(ask(applications[application].store.clone(), id));
            }
        }
        true
    }
}
