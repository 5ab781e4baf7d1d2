//! A loan of a laptop is reminded of after four hours, unless it came back before.

use std::time::Duration;

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_testing::explorer::{Explorer, Schedules};
use serde::{Deserialize, Serialize};

use crate::{MANY, is_found};

const HOUR: Duration = Duration::from_secs(3_600);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum LoanEvent {
    Lent,
    CameBack,
    Reminded,
}

impl Event for LoanEvent {
    const NAMESPACE: &'static str = "loan";
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Lending {
    Lend,
    TakeBack,
    Remind,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("the laptop is not lent")]
struct NotLent;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Loan {
    lent: bool,
    reminded: u32,
}

impl Aggregate for Loan {
    const CATEGORY: &'static str = "loan";
    type Event = LoanEvent;
    type Command = Lending;
    type Refusal = NotLent;

    fn apply(&mut self, event: &LoanEvent) {
        match event {
            LoanEvent::Lent => self.lent = true,
            LoanEvent::CameBack => self.lent = false,
            LoanEvent::Reminded => self.reminded += 1,
        }
    }

    fn decide(&self, command: &Lending) -> Result<Vec<LoanEvent>, NotLent> {
        match command {
            Lending::Lend => Ok(vec![LoanEvent::Lent]),
            Lending::TakeBack if self.lent => Ok(vec![LoanEvent::CameBack]),
            Lending::TakeBack => Err(NotLent),
            Lending::Remind => Ok(vec![LoanEvent::Reminded]),
        }
    }
}

/// With `CANCELS` it forgets the loan when it comes back.
#[derive(Default)]
struct Reminders<const CANCELS: bool>;

impl<const CANCELS: bool> Process for Reminders<CANCELS> {
    const NAME: &'static str = "reminders";
    type Event = LoanEvent;

    fn targets() -> Targets {
        Targets::of::<Loan>()
    }

    fn correlate(event: &Recorded<LoanEvent>) -> Correlation {
        match event.event {
            LoanEvent::Lent => Correlation::starts(event.stream_id()),
            LoanEvent::CameBack => Correlation::continues(event.stream_id()),
            LoanEvent::Reminded => Correlation::ignores(),
        }
    }

    fn apply(&mut self, _: &Trigger<LoanEvent>, _: &Context) {}

    fn react(&self, trigger: &Trigger<LoanEvent>, loan: &Context) -> Reaction {
        match trigger {
            Trigger::Event(LoanEvent::Lent) => Reaction::none().timer("remind", 4 * HOUR),
            Trigger::Event(LoanEvent::CameBack) if CANCELS => Reaction::none().cancel("remind"),
            Trigger::TimerFired { .. } => {
                Reaction::none().command::<Loan>(&loan.key, Lending::Remind)
            }
            Trigger::Event(_) | Trigger::Refused(_) => Reaction::none(),
        }
    }
}

fn explorer<const CANCELS: bool>() -> Explorer {
    Explorer::new()
        .seed(7)
        .applications(2)
        .aggregate::<Loan>()
        .process::<Reminders<CANCELS>>()
        .start(|clients| {
            clients.client("anna").command::<Loan>("forgotten", Lending::Lend);
            let ben = clients.client("ben").command::<Loan>("read", Lending::Lend);
            ben.wait(HOUR).command::<Loan>("read", Lending::TakeBack);
        })
        .finally("whoever forgets is reminded once", |world| {
            world.state::<Loan>("forgotten").is_some_and(|loan| loan.reminded == 1)
        })
        .finally("whoever was in time is not", |world| {
            let of = |event: &str| {
                world.events().iter().find(|one| {
                    one.stream.as_ref().is_some_and(|at| at.name.id() == "read")
                        && &*one.event_type == event
                })
            };
            let (Some(lent), Some(back)) = (of("loan.Lent"), of("loan.CameBack")) else {
                return false;
            };
            // The schedule may hold the request back for hours.
            let in_time = back.recorded_at.since(lent.recorded_at) < 4 * HOUR;
            !in_time || world.state::<Loan>("read").is_some_and(|loan| loan.reminded == 0)
        })
}

#[test]
fn reminders_come_once_and_in_need_whatever_happens() {
    explorer::<true>().run(MANY);
}

#[test]
fn a_reminder_that_is_not_cancelled_is_found() {
    let failure = explorer::<false>().explore(Schedules(100)).unwrap_err();
    is_found(&failure, "whoever was in time is not", 15);
}

/// The explorer moved its clock from one due timer to the next, microseconds on, and took it for a
/// sign that nothing more happens that the process, which sleeps for a millisecond at least, did
/// nothing in between: so it ended with timers due.
#[test]
fn timers_that_are_due_at_nearly_the_same_time_all_fire() {
    let loans: Vec<String> = (1..=12).map(|number| format!("laptop {number}")).collect();
    let explorer =
        Explorer::new().seed(7).aggregate::<Loan>().process::<Reminders<true>>().start(|clients| {
            for loan in &loans {
                clients.client(loan).command::<Loan>(loan, Lending::Lend);
            }
        });
    let explorer = explorer.finally("each is reminded of once", |world| {
        let mut loans = world.states::<Loan>();
        loans.all(|loan| loan.reminded == 1) && world.states::<Loan>().count() == 12
    });
    explorer.run(Schedules(20));
}
