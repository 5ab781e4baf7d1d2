//! A city that is disabled takes its companies with it, also one that is founded meanwhile.

use std::collections::BTreeSet;
use std::ops::Bound::{Excluded, Unbounded};

use leftfold_core::fold::{Aggregate, Event, Recorded};
use leftfold_core::runtime::process::{Context, Correlation, Process, Reaction, Targets, Trigger};
use leftfold_testing::explorer::{Clients, Explorer, Schedules};
use serde::{Deserialize, Serialize};

use crate::{MANY, is_found};

/// Nothing is wrong.
const SOUND: u8 = 0;
/// A company that is founded in a disabled city stays enabled.
const MISSED: u8 = 1;
/// One company after the other, up to the first that refuses.
const HALF_WAY: u8 = 2;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CityEvent {
    Disabled,
    Enabled,
}

impl Event for CityEvent {
    const NAMESPACE: &'static str = "city";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Switch {
    Disable,
    Enable,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("it is so already")]
struct IsSo;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct City {
    disabled: bool,
}

impl Aggregate for City {
    const CATEGORY: &'static str = "city";
    type Event = CityEvent;
    type Command = Switch;
    type Refusal = IsSo;

    fn apply(&mut self, event: &CityEvent) {
        self.disabled = *event == CityEvent::Disabled;
    }

    fn decide(&self, command: &Switch) -> Result<Vec<CityEvent>, IsSo> {
        match command {
            Switch::Disable if !self.disabled => Ok(vec![CityEvent::Disabled]),
            Switch::Enable if self.disabled => Ok(vec![CityEvent::Enabled]),
            _ => Err(IsSo),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CompanyEvent {
    Founded { city: String },
    Disabled { city: String },
    Enabled { city: String },
}

impl Event for CompanyEvent {
    const NAMESPACE: &'static str = "company";
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Run {
    Found { city: String },
    Disable,
    Enable,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Company {
    city: String,
    disabled: bool,
}

impl Aggregate for Company {
    const CATEGORY: &'static str = "company";
    type Event = CompanyEvent;
    type Command = Run;
    type Refusal = IsSo;

    fn apply(&mut self, event: &CompanyEvent) {
        match event {
            CompanyEvent::Founded { city } => self.city.clone_from(city),
            CompanyEvent::Disabled { .. } => self.disabled = true,
            CompanyEvent::Enabled { .. } => self.disabled = false,
        }
    }

    fn decide(&self, command: &Run) -> Result<Vec<CompanyEvent>, IsSo> {
        let city = self.city.clone();
        match command {
            Run::Found { city } => Ok(vec![CompanyEvent::Founded { city: city.clone() }]),
            Run::Disable if !self.disabled => Ok(vec![CompanyEvent::Disabled { city }]),
            Run::Enable if self.disabled => Ok(vec![CompanyEvent::Enabled { city }]),
            _ => Err(IsSo),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum CityFact {
    #[serde(rename = "city.Disabled")]
    Disabled,
    #[serde(rename = "city.Enabled")]
    Enabled,
    #[serde(rename = "company.Founded")]
    Founded { city: String },
    #[serde(rename = "company.Disabled")]
    CompanyDisabled { city: String },
}

impl Event for CityFact {
    const NAMESPACE: &'static str = "cascade";
}

#[derive(Debug, Default)]
struct Cascade<const BUG: u8> {
    disabled: bool,
    companies: BTreeSet<String>,
}

impl<const BUG: u8> Process for Cascade<BUG> {
    const NAME: &'static str = "cascade";
    type Event = CityFact;

    fn targets() -> Targets {
        Targets::of::<Company>()
    }

    fn correlate(event: &Recorded<CityFact>) -> Correlation {
        match &event.event {
            CityFact::Disabled | CityFact::Enabled => Correlation::starts(event.stream_id()),
            CityFact::Founded { city } => Correlation::starts(city),
            CityFact::CompanyDisabled { city } if BUG == HALF_WAY => Correlation::continues(city),
            CityFact::CompanyDisabled { .. } => Correlation::ignores(),
        }
    }

    fn apply(&mut self, trigger: &Trigger<CityFact>, context: &Context) {
        match trigger {
            Trigger::Event(CityFact::Disabled) => self.disabled = true,
            Trigger::Event(CityFact::Enabled) => self.disabled = false,
            Trigger::Event(CityFact::Founded { .. }) => {
                _ = self.companies.insert(context.stream_id.clone())
            }
            Trigger::Event(CityFact::CompanyDisabled { .. })
            | Trigger::TimerFired { .. }
            | Trigger::Refused(_) => {}
        }
    }

    fn react(&self, trigger: &Trigger<CityFact>, context: &Context) -> Reaction {
        let all = |command: Run| {
            self.companies.iter().fold(Reaction::none(), |all, company| {
                all.command::<Company>(company, command.clone())
            })
        };
        let next =
            |after: &str| match self.companies.range::<str, _>((Excluded(after), Unbounded)).next()
            {
                Some(next) => Reaction::none().command::<Company>(next, Run::Disable),
                None => Reaction::none(),
            };
        match trigger {
            Trigger::Event(CityFact::Disabled) if BUG == HALF_WAY => next(""),
            Trigger::Event(CityFact::CompanyDisabled { .. }) if self.disabled => {
                next(&context.stream_id)
            }
            Trigger::Event(CityFact::Disabled) => all(Run::Disable),
            Trigger::Event(CityFact::Enabled) => all(Run::Enable),
            Trigger::Event(CityFact::Founded { .. }) if self.disabled && BUG != MISSED => {
                Reaction::none().command::<Company>(&context.stream_id, Run::Disable)
            }
            _ => Reaction::none(),
        }
    }
}

fn explorer<const BUG: u8>(start: impl FnOnce(&mut Clients)) -> Explorer {
    Explorer::new()
        .seed(7)
        .aggregate::<City>()
        .aggregate::<Company>()
        .process::<Cascade<BUG>>()
        .start(|clients| {
            for company in ["c1", "c2", "c3"] {
                clients
                    .given::<Company>(company, [CompanyEvent::Founded { city: "ulm".to_owned() }]);
            }
            start(clients);
        })
        .finally("a company is as its city", |world| {
            world.states::<Company>().all(|company| {
                world
                    .state::<City>(&company.city)
                    .is_some_and(|city| city.disabled == company.disabled)
            })
        })
}

fn found() -> Run {
    Run::Found { city: "ulm".to_owned() }
}

#[test]
fn all_companies_end_as_their_city_whatever_happens() {
    let quick_succession = |clients: &mut Clients| {
        let anna = clients.client("anna").command::<City>("ulm", Switch::Disable);
        anna.command::<City>("ulm", Switch::Enable).command::<City>("ulm", Switch::Disable);
        clients.client("ben").command::<Company>("c4", found());
    };
    explorer::<SOUND>(quick_succession).run(MANY);
}

#[test]
fn a_company_that_is_founded_during_the_cascade_and_missed_is_found() {
    let race = |clients: &mut Clients| {
        clients.client("anna").command::<City>("ulm", Switch::Disable);
        clients.client("ben").command::<Company>("c4", found());
    };
    let failure = explorer::<MISSED>(race).explore(Schedules(1_000)).unwrap_err();
    is_found(&failure, "a company is as its city", 15);
}

#[test]
fn a_cascade_that_stops_half_way_is_found() {
    let race = |clients: &mut Clients| {
        clients.client("anna").command::<City>("ulm", Switch::Disable);
        clients.client("ben").command::<Company>("c2", Run::Disable);
    };
    let failure = explorer::<HALF_WAY>(race).explore(Schedules(1_000)).unwrap_err();
    is_found(&failure, "a company is as its city", 15);
}

#[test]
fn a_seed_tells_the_same_story_every_time() {
    let race = |clients: &mut Clients| {
        clients
            .client("anna")
            .command::<City>("ulm", Switch::Disable)
            .command::<City>("ulm", Switch::Enable);
        clients.client("ben").command::<Company>("c2", Run::Disable);
    };
    let failure = explorer::<HALF_WAY>(race).explore(Schedules(1_000)).unwrap_err();
    assert_eq!(explorer::<HALF_WAY>(race).explore(Schedules(1_000)).unwrap_err(), failure);
    let replayed = explorer::<HALF_WAY>(race).seed(8).replay(failure.seed).unwrap_err();
    assert_eq!(
        (&replayed.story, &replayed.name, replayed.seed),
        (&failure.story, &failure.name, failure.seed)
    );
    let sound = || explorer::<SOUND>(race).explore(Schedules(300));
    assert_eq!(sound(), sound(), "every schedule has as many points as before");
}
