//! The time of each half, and the component that corrects halves.

use std::collections::BTreeMap;
use std::time::Duration;

use leftfold::prelude::*;

use crate::pool::{CorrectionAsked, Feed, Pool, PoolEvent};

pub(crate) const BUFFER: Duration = Duration::from_secs(10 * 60);

/// Keeps the time of one half, from its arrival (or correction) on.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    article: String,
}

// ANCHOR: process
impl Process for Buffer {
    const NAME: &'static str = "buffer";
    type Event = PoolEvent;

    fn targets() -> Targets {
        Targets::of::<Pool>()
    }

    fn correlate(event: &Recorded<PoolEvent>) -> Correlation {
        let article = event.stream_id();
        let key = |half: &str| format!("{article}/{half}");
        match &event.event {
            PoolEvent::Arrived { half } => Correlation::starts(key(&half.id)),
            PoolEvent::Corrected { half, .. } => Correlation::continues(key(half)),
            PoolEvent::Paired { one, other } => Correlation::ends(key(one)).and_ends(key(other)),
            PoolEvent::Discarded { half, .. } => Correlation::ends(key(half)),
            PoolEvent::CorrectionAsked(_) | PoolEvent::Held { .. } => Correlation::ignores(),
        }
    }

    fn apply(&mut self, trigger: &Trigger<PoolEvent>, context: &Context) {
        if let Trigger::Event(PoolEvent::Arrived { .. }) = trigger {
            self.article.clone_from(&context.stream_id);
        }
    }

    fn react(&self, trigger: &Trigger<PoolEvent>, context: &Context) -> Reaction {
        let half = context.key.get(self.article.len() + 1..).unwrap_or_default().to_owned();
        match trigger {
            Trigger::Event(PoolEvent::Arrived { .. } | PoolEvent::Corrected { .. }) => {
                Reaction::none().timer("buffer", BUFFER)
            }
            Trigger::TimerFired { .. } => {
                Reaction::none().command::<Pool>(&self.article, Feed::TimeIsUp { half })
            }
            Trigger::Event(_) | Trigger::Refused(_) => Reaction::none(),
        }
    }
}
// ANCHOR_END: process

/// The component that knows what a reporter forgot: here a drawer of papers.
pub(crate) struct Corrector {
    pub(crate) papers: BTreeMap<String, u32>,
}

// ANCHOR: effect
impl Effect for Corrector {
    const NAME: &'static str = "corrector";
    const INTENT: &'static str = "pool.CorrectionAsked";
    type Intent = CorrectionAsked;
    type Outcome = Option<u32>;
    type Target = Pool;

    fn policy(&self) -> Policy {
        Policy::repeatable()
    }

    async fn perform(&self, attempt: &Attempt<CorrectionAsked>) -> Performed<Option<u32>> {
        Performed::Done(self.papers.get(&attempt.intent.half).copied())
    }

    fn report(
        &self,
        attempt: &Attempt<CorrectionAsked>,
        conclusion: &Conclusion<Option<u32>>,
    ) -> Option<(String, Feed)> {
        let article = attempt.event.stream.as_ref()?.name.id().to_owned();
        let half = attempt.intent.half.clone();
        Some(match conclusion {
            Conclusion::Done(Some(pieces)) => (article, Feed::Correct { half, pieces: *pieces }),
            Conclusion::Done(None) => (
                article,
                Feed::GiveUpCorrecting { half, why: "there is no paper of it".to_owned() },
            ),
            Conclusion::NotDone { reason } => {
                (article, Feed::GiveUpCorrecting { half, why: reason.clone() })
            }
        })
    }
}
// ANCHOR_END: effect
