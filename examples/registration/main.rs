//! A registration makes a customer, a security account that a person must approve within three
//! days, and a login; if any of them cannot be had, nothing of it may stay. The pattern is the
//! process with compensation and a deadline: each event leads to the next command, a refusal or a
//! timer turns it round, and what was made is taken back in reverse order, wherever the machine
//! stops in between. Leave it where all parts are in one store and no person is asked: then one
//! decision makes them all, or none.

mod parts;
mod process;

use std::error::Error;
use std::sync::Arc;

use leftfold::prelude::*;
use leftfold::testing::HandClock;
use parts::{
    AccountCommand, Application, Login, LoginCommand, Register, Registration, RegistrationEvent,
    SecurityAccount,
};
use process::{APPROVAL_WITHIN, Registering, Step};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let clock = Arc::new(HandClock::going());
    let runtime =
        Runtime::new(&store).clock(clock.clone()).process::<Registering>().start().await?;
    store
        .aggregate::<Login>()
        .execute("admin", LoginCommand::Create { registration: "none".into() })
        .await
        .ok();
    for number in 0..place.load().unwrap_or(1) {
        let of = |name: &str| format!("{name}{number}");
        let ann = start(&store, &of("ann"), "ann", &of("1-")).await?;
        approve(&store, &of("ann"), ann).await?;
        println!("ann {}", told(ended(&store, &of("ann"), ann).await?));

        let again = start(&store, &of("ann-again"), "ann", &of("1-")).await?;
        println!("ann once more {}", told(ended(&store, &of("ann-again"), again).await?));

        let bob = start(&store, &of("bob"), "admin", &of("2-")).await?;
        approve(&store, &of("bob"), bob).await?;
        println!("bob, who wants to be admin, {}", told(ended(&store, &of("bob"), bob).await?));
    }
    let cid = start(&store, "cid", "cid", "3").await?;
    approval_asked(&store, "cid", cid).await?;
    println!("nobody looks at cid's application for three days");
    clock.advance(APPROVAL_WITHIN);
    println!("cid {}", told(ended(&store, "cid", cid).await?));
    runtime.stop().await?;
    store.close().await?;
    Ok(())
}

/// Starts a registration, once however often it is asked for.
async fn start(
    store: &Store,
    registration: &str,
    login: &str,
    tax_id: &str,
) -> Result<Position, Box<dyn Error>> {
    let login = if login == "admin" { login.to_owned() } else { format!("{login} {tax_id}") };
    let application =
        Application { tax_id: tax_id.to_owned(), name: registration.to_owned(), login };
    let registrations = store.aggregate::<Registration>();
    let started = registrations.command(registration, Register::Start(application));
    Ok(started.id("registration", registration).without_request_check().execute().await?.position)
}

async fn approval_asked(
    store: &Store,
    registration: &str,
    after: Position,
) -> Result<(), LoadError> {
    let is_meant = |step: &Recorded<Step>| {
        step.event == Step::AccountApplied && step.stream_id() == registration
    };
    store.follow::<Step>(after)?.find(is_meant).await.map(drop)
}

/// A person approves the security account when it is applied for.
async fn approve(store: &Store, registration: &str, after: Position) -> Result<(), Box<dyn Error>> {
    approval_asked(store, registration, after).await?;
    let accounts = store.aggregate::<SecurityAccount>();
    accounts
        .command(registration, AccountCommand::Approve)
        .id("approval", registration)
        .without_request_check()
        .execute()
        .await?;
    Ok(())
}

/// Waits for the end of a registration.
async fn ended(
    store: &Store,
    registration: &str,
    after: Position,
) -> Result<RegistrationEvent, LoadError> {
    let is_end = |event: &RegistrationEvent| !matches!(event, RegistrationEvent::Started(_));
    let mut news = store.follow::<RegistrationEvent>(after)?;
    let end = news.find(|news| news.stream_id() == registration && is_end(&news.event)).await?;
    Ok(end.event)
}

/// An end, in words.
fn told(end: RegistrationEvent) -> String {
    match end {
        RegistrationEvent::Started(_) => "has just begun".into(),
        RegistrationEvent::Completed => "is registered".into(),
        RegistrationEvent::Failed { reason } => {
            format!("is not registered, and nothing of it stays: {reason}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use leftfold::testing::explorer::{Explorer, Schedules};
    use leftfold::testing::given;
    use parts::{AccountEvent, Customer, CustomerCommand, CustomerEvent, No};
    use std::time::Duration;

    /// Returns the parts of a registration that exist: customer, security account, login.
    async fn parts(
        store: &Store,
        registration: &str,
        tax_id: &str,
        login: &str,
    ) -> (bool, bool, bool) {
        let customer = store.aggregate::<Customer>().load(tax_id).await.unwrap().state;
        let account = store.aggregate::<SecurityAccount>().load(registration).await.unwrap().state;
        let login = store.aggregate::<Login>().load(login).await.unwrap().state;
        let is_open = matches!(account, SecurityAccount::Applied | SecurityAccount::Open);
        (
            customer.name.as_deref() == Some(registration),
            is_open,
            login.registration.as_deref() == Some(registration),
        )
    }

    async fn outcome(store: &Store, registration: &str) -> Option<Result<(), String>> {
        store.aggregate::<Registration>().load(registration).await.unwrap().state.outcome
    }

    #[tokio::test]
    async fn a_registration_is_complete_or_nothing_of_it_stays_wherever_the_program_is_killed() {
        const LOAD: u32 = 25;
        let place = examples::killed("registration", LOAD);
        let store = leftfold::open(place.path()).await.unwrap();
        for number in 0..LOAD {
            let (one, two) = (format!("1-{number}"), format!("2-{number}"));
            let (ann, again, bob) =
                (format!("ann{number}"), format!("ann-again{number}"), format!("bob{number}"));
            let login = format!("ann {one}");
            assert_eq!(outcome(&store, &ann).await, Some(Ok(())));
            assert_eq!(parts(&store, &ann, &one, &login).await, (true, true, true));
            assert_eq!(outcome(&store, &again).await, Some(Err(No::Customer.to_string())));
            assert_eq!(parts(&store, &again, &one, &login).await, (false, false, false));
            assert_eq!(outcome(&store, &bob).await, Some(Err(No::LoginTaken.to_string())));
            assert_eq!(parts(&store, &bob, &two, "admin").await, (false, false, false));
        }
        assert!(matches!(outcome(&store, "cid").await, Some(Err(_))));
        assert_eq!(parts(&store, "cid", "3", "cid 3").await, (false, false, false));
    }

    // ANCHOR: explored
    #[test]
    fn no_crash_and_no_order_of_things_leaves_a_part_of_a_registration() {
        let application = |name: &str, tax_id: &str| {
            Register::Start(Application {
                tax_id: tax_id.into(),
                name: name.into(),
                login: "ada".into(),
            })
        };
        Explorer::new()
            .aggregate::<Registration>()
            .aggregate::<Customer>()
            .aggregate::<SecurityAccount>()
            .aggregate::<Login>()
            .process::<Registering>()
            .start(|clients| {
                // Two want one login name, two are one person, and approval comes early, late or
                // not at all.
                clients.client("ann").command::<Registration>("ann", application("ann", "1"));
                clients.client("bob").command::<Registration>("bob", application("bob", "2"));
                clients.client("cid").command::<Registration>("cid", application("cid", "2"));
                let bank = clients.client("bank").wait(Duration::from_secs(3_600));
                let bank = bank.command::<SecurityAccount>("ann", AccountCommand::Approve);
                let bank = bank.wait(APPROVAL_WITHIN - Duration::from_secs(3_600));
                bank.command::<SecurityAccount>("bob", AccountCommand::Approve)
                    .command::<SecurityAccount>("cid", AccountCommand::Approve);
            })
            .finally("each registration is complete, or nothing of it stays", |world| {
                world.aggregates::<Registration>().all(|(id, registration)| {
                    let customer = world
                        .states::<Customer>()
                        .any(|customer| customer.name.as_deref() == Some(id));
                    let account = matches!(
                        world.state(id),
                        Some(SecurityAccount::Applied | SecurityAccount::Open)
                    );
                    let login = world
                        .states::<Login>()
                        .any(|login| login.registration.as_deref() == Some(id));
                    match &registration.outcome {
                        Some(Ok(())) => customer && account && login,
                        Some(Err(_)) => !customer && !account && !login,
                        None => false,
                    }
                })
            })
            .finally("nothing is left under way", |world| {
                world.open_processes() == 0 && world.parked() == 0
            })
            .run(Schedules(300));
    }
    // ANCHOR_END: explored

    #[tokio::test]
    async fn an_approval_in_time_cancels_the_deadline_though_the_process_hears_of_it_late() {
        for store in examples::stores().await {
            let clock = Arc::new(HandClock::going());
            let running = Runtime::new(&store)
                .clock(clock.clone())
                .process::<Registering>()
                .start()
                .await
                .unwrap();
            let ann = start(&store, "ann", "ann", "1").await.unwrap();
            approval_asked(&store, "ann", ann).await.unwrap();
            running.stop().await.unwrap();
            // The process is away from the approval until long after the deadline.
            approve(&store, "ann", ann).await.unwrap();
            clock.advance(APPROVAL_WITHIN * 2);
            let running =
                Runtime::new(&store).clock(clock).process::<Registering>().start().await.unwrap();
            assert_eq!(ended(&store, "ann", ann).await.unwrap(), RegistrationEvent::Completed);
            running.stop().await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_approval_after_the_deadline_is_refused_and_nothing_stays() {
        for store in examples::stores().await {
            let clock = Arc::new(HandClock::going());
            let running = Runtime::new(&store)
                .clock(clock.clone())
                .process::<Registering>()
                .start()
                .await
                .unwrap();
            let ann = start(&store, "ann", "ann", "1").await.unwrap();
            approval_asked(&store, "ann", ann).await.unwrap();
            clock.advance(APPROVAL_WITHIN);
            assert!(matches!(
                ended(&store, "ann", ann).await.unwrap(),
                RegistrationEvent::Failed { .. }
            ));
            running.stop().await.unwrap();
            let late =
                store.aggregate::<SecurityAccount>().execute("ann", AccountCommand::Approve).await;
            assert_eq!(late, Err(ExecuteError::Refused(No::NotWaiting)));
            assert_eq!(parts(&store, "ann", "1", "ann 1").await, (false, false, false));
        }
    }

    #[test]
    fn what_is_taken_back_twice_is_taken_back_once() {
        let applied = AccountEvent::Applied { tax_id: "1".into() };
        given::<SecurityAccount>([applied.clone()])
            .when(AccountCommand::Close)
            .then([AccountEvent::Closed]);
        given::<SecurityAccount>([applied, AccountEvent::Closed])
            .when(AccountCommand::Close)
            .then_nothing();
        let remove = || CustomerCommand::Remove { registration: "r".into() };
        let created = CustomerEvent::Created { registration: "r".into(), name: "ann".into() };
        let removed = CustomerEvent::Removed { registration: "r".into() };
        given::<Customer>([created.clone()]).when(remove()).then([removed.clone()]);
        given::<Customer>([created, removed]).when(remove()).then_nothing();
    }
}
