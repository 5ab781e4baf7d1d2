//! A factory has workers and machines; instructions come in, workers carry them out, and what
//! happened is recorded. The pattern is a large aggregate in parts: each part is a fold of its own,
//! a decision asks those that it needs, and pure services (a price list, a rule table) are handed
//! to it as values, so that it can be repeated and tested without them. Leave it where parts never
//! share a rule: then they are aggregates of their own, and do not wait for each other.

mod floor;
mod services;

use std::collections::BTreeSet;
use std::error::Error;

use floor::{Earnings, Factory, FactoryCommand, FactoryEvent};
use leftfold::prelude::*;
use services::{PriceList, Rules};

fn rules() -> Rules {
    let skill = [("weld", "welding"), ("paint", "painting")]
        .map(|(work, skill)| (work.to_owned(), skill.to_owned()));
    Rules { skill: skill.into(), runs_max: 2 }
}

fn prices(edition: u32, weld_cents: u64) -> PriceList {
    PriceList {
        edition,
        cents: [("weld".to_owned(), weld_cents), ("paint".to_owned(), 700)].into(),
    }
}

fn hire(worker: &str, skills: &[&str]) -> FactoryCommand {
    FactoryCommand::Hire {
        worker: worker.into(),
        skills: skills.iter().map(|skill| (*skill).to_owned()).collect(),
    }
}

fn install(machine: &str) -> FactoryCommand {
    FactoryCommand::Install { machine: machine.into() }
}

fn instruct(instruction: &str, work: &str) -> FactoryCommand {
    FactoryCommand::Instruct { instruction: instruction.into(), work: work.into(), rules: rules() }
}

fn carry_out(instruction: &str, prices: PriceList) -> FactoryCommand {
    FactoryCommand::CarryOut { instruction: instruction.into(), prices }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let place = examples::place()?;
    let store = leftfold::open(place.path()).await?;
    let factories = store.aggregate::<Factory>();
    let story = [
        hire("ann", &["welding"]),
        hire("bob", &["welding", "painting"]),
        install("m1"),
        instruct("1", "paint"),
        instruct("2", "weld"),
        install("m2"),
        instruct("2", "weld"),
        instruct("3", "weld"),
        carry_out("1", prices(1, 900)),
        FactoryCommand::Fail { instruction: "2".into(), because: "the seam broke".into() },
        instruct("2 again", "weld"),
        FactoryCommand::LetGo { worker: "ann".into() },
        FactoryCommand::RecalibrateAll,
        carry_out("2 again", prices(2, 950)),
        FactoryCommand::RecalibrateAll,
    ];
    for command in story {
        println!("{}", asked(&command));
        match factories.execute("north", command).await {
            Ok(done) if done.events.is_empty() => println!("    nothing is to be done"),
            Ok(done) => done.events.iter().for_each(|event| println!("    {}", told(event))),
            Err(ExecuteError::Refused(no)) => println!("    no: {no}"),
            Err(other) => return Err(other.into()),
        }
    }
    let earnings = store.aggregate::<Earnings>().load("north").await?.state;
    println!(
        "one part alone, the earnings: {} pieces for {} cents",
        earnings.pieces, earnings.cents
    );
    store.close().await?;
    Ok(())
}

/// A command, in words, without the services that come with it.
fn asked(command: &FactoryCommand) -> String {
    match command {
        FactoryCommand::Hire { worker, skills } => {
            format!("hire {worker} for {}", skills.join(" and "))
        }
        FactoryCommand::LetGo { worker } => format!("let {worker} go"),
        FactoryCommand::Install { machine } => format!("install {machine}"),
        FactoryCommand::Instruct { instruction, work, .. } => {
            format!("instruction {instruction}: {work}")
        }
        FactoryCommand::CarryOut { instruction, prices } => {
            format!(
                "instruction {instruction} is done, by edition {} of the price list",
                prices.edition
            )
        }
        FactoryCommand::Fail { instruction, .. } => format!("instruction {instruction} fails"),
        FactoryCommand::RecalibrateAll => "recalibrate all machines".into(),
    }
}

/// An event, in words.
fn told(event: &FactoryEvent) -> String {
    let list =
        |machines: &BTreeSet<String>| machines.iter().cloned().collect::<Vec<_>>().join(", ");
    match event {
        FactoryEvent::WorkerHired { worker, .. } => format!("{worker} works here"),
        FactoryEvent::WorkerLeft { worker } => format!("{worker} has left"),
        FactoryEvent::MachineInstalled { machine } => format!("{machine} is ready"),
        FactoryEvent::MachinesRecalibrated { machines } => {
            format!("recalibrated: {}", list(machines))
        }
        FactoryEvent::RecalibrationPutOff { machines } => {
            format!("to be recalibrated when it stops: {}", list(machines))
        }
        FactoryEvent::Instructed { machine, worker, .. } => {
            format!("{worker} does it at {machine}")
        }
        FactoryEvent::CarriedOut { worker, cents, .. } => {
            format!("{worker} has done it, for {cents} cents")
        }
        FactoryEvent::Failed { worker, because, .. } => {
            format!("{worker} has not done it: {because}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floor::FactoryRefusal;
    use leftfold::testing::given;

    fn hired(worker: &str, skill: &str) -> FactoryEvent {
        FactoryEvent::WorkerHired { worker: worker.into(), skills: vec![skill.into()] }
    }

    fn installed(machine: &str) -> FactoryEvent {
        FactoryEvent::MachineInstalled { machine: machine.into() }
    }

    fn instructed(instruction: &str, machine: &str, worker: &str) -> FactoryEvent {
        let (instruction, work) = (instruction.into(), "weld".into());
        FactoryEvent::Instructed {
            instruction,
            work,
            machine: machine.into(),
            worker: worker.into(),
        }
    }

    fn failed(instruction: &str, machine: &str, worker: &str) -> FactoryEvent {
        let because = "it broke".into();
        FactoryEvent::Failed {
            instruction: instruction.into(),
            machine: machine.into(),
            worker: worker.into(),
            because,
        }
    }

    #[test]
    fn work_goes_to_a_free_worker_with_the_skill_and_a_free_machine() {
        let floor = [hired("ann", "painting"), hired("bob", "welding"), installed("m1")];
        given::<Factory>(floor.clone())
            .when(instruct("1", "weld"))
            .then([instructed("1", "m1", "bob")]);
        let busy = floor.into_iter().chain([installed("m2"), instructed("1", "m1", "bob")]);
        given::<Factory>(busy)
            .when(instruct("2", "weld"))
            .then_refused(FactoryRefusal::NoWorker { work: "weld".into() });
        let one_machine = [
            hired("bob", "welding"),
            hired("cid", "welding"),
            installed("m1"),
            instructed("1", "m1", "bob"),
        ];
        given::<Factory>(one_machine)
            .when(instruct("2", "weld"))
            .then_refused(FactoryRefusal::NoMachine);
    }

    #[test]
    fn another_rule_table_gives_another_answer_and_the_aggregate_is_the_same() {
        let floor = [hired("ann", "painting"), installed("m1")];
        let lenient = Rules { skill: Default::default(), runs_max: 1 };
        let command = FactoryCommand::Instruct {
            instruction: "1".into(),
            work: "weld".into(),
            rules: lenient,
        };
        given::<Factory>(floor.clone()).when(command).then([instructed("1", "m1", "ann")]);
        given::<Factory>(floor)
            .when(instruct("1", "weld"))
            .then_refused(FactoryRefusal::NoWorker { work: "weld".into() });
    }

    #[test]
    fn a_price_is_taken_from_the_list_of_the_day_and_stands_in_the_event() {
        let floor = [hired("bob", "welding"), installed("m1"), instructed("1", "m1", "bob")];
        let carried_out = |cents, price_list| FactoryEvent::CarriedOut {
            instruction: "1".into(),
            machine: "m1".into(),
            worker: "bob".into(),
            cents,
            price_list,
        };
        given::<Factory>(floor.clone())
            .when(carry_out("1", prices(1, 900)))
            .then([carried_out(900, 1)]);
        given::<Factory>(floor.clone())
            .when(carry_out("1", prices(2, 950)))
            .then([carried_out(950, 2)]);
        let empty = PriceList { edition: 3, ..PriceList::default() };
        let no_price = FactoryRefusal::NoPrice { work: "weld".into(), edition: 3 };
        given::<Factory>(floor).when(carry_out("1", empty)).then_refused(no_price);
    }

    fn recalibrated(machines: &[&str]) -> FactoryEvent {
        FactoryEvent::MachinesRecalibrated {
            machines: machines.iter().map(|machine| (*machine).to_owned()).collect(),
        }
    }

    #[test]
    fn all_machines_that_stand_still_are_recalibrated_in_one_event() {
        let mut floor =
            vec![hired("bob", "welding"), installed("m1"), installed("m2"), installed("m3")];
        for (instruction, machine) in [("1", "m1"), ("2", "m1"), ("3", "m2")] {
            floor.extend([
                instructed(instruction, machine, "bob"),
                failed(instruction, machine, "bob"),
            ]);
        }
        given::<Factory>(floor.clone())
            .when(instruct("4", "weld"))
            .then([instructed("4", "m2", "bob")]);
        given::<Factory>(floor.clone())
            .when(FactoryCommand::RecalibrateAll)
            .then([recalibrated(&["m1", "m2"])]);
        let again = floor.into_iter().chain([recalibrated(&["m1", "m2"])]);
        given::<Factory>(again.clone()).when(FactoryCommand::RecalibrateAll).then_nothing();
        given::<Factory>(again).when(instruct("4", "weld")).then([instructed("4", "m1", "bob")]);
    }

    /// One that ran was never recalibrated: the command was refused for all.
    #[test]
    fn a_machine_that_runs_is_recalibrated_when_it_stops_however_it_stops() {
        let put_off = |machine: &str| FactoryEvent::RecalibrationPutOff {
            machines: [machine.to_owned()].into(),
        };
        let mut floor = vec![
            hired("bob", "welding"),
            hired("cid", "welding"),
            installed("m1"),
            installed("m2"),
        ];
        floor.extend([
            instructed("1", "m1", "bob"),
            instructed("2", "m2", "cid"),
            failed("2", "m2", "cid"),
        ]);
        let asked = [recalibrated(&["m2"]), put_off("m1")];
        given::<Factory>(floor.clone()).when(FactoryCommand::RecalibrateAll).then(asked.clone());
        floor.extend(asked);
        given::<Factory>(floor.clone()).when(FactoryCommand::RecalibrateAll).then_nothing();

        let because = "it broke".to_owned();
        let fail = FactoryCommand::Fail { instruction: "1".into(), because };
        given::<Factory>(floor.clone())
            .when(fail)
            .then([failed("1", "m1", "bob"), recalibrated(&["m1"])]);
        let (cents, price_list, instruction) = (900, 1, "1".to_owned());
        let carried_out = FactoryEvent::CarriedOut {
            instruction,
            machine: "m1".into(),
            worker: "bob".into(),
            cents,
            price_list,
        };
        given::<Factory>(floor.clone())
            .when(carry_out("1", prices(1, 900)))
            .then([carried_out, recalibrated(&["m1"])]);

        floor.extend([
            failed("1", "m1", "bob"),
            recalibrated(&["m1"]),
            instructed("3", "m1", "bob"),
        ]);
        let fail = FactoryCommand::Fail { instruction: "3".into(), because: "it broke".into() };
        given::<Factory>(floor).when(fail).then([failed("3", "m1", "bob")]);
    }

    #[test]
    fn who_has_work_to_do_is_not_let_go() {
        let let_go = || FactoryCommand::LetGo { worker: "bob".into() };
        let busy = [hired("bob", "welding"), installed("m1"), instructed("1", "m1", "bob")];
        given::<Factory>(busy.clone())
            .when(let_go())
            .then_refused(FactoryRefusal::Busy { worker: "bob".into() });
        let free = busy.into_iter().chain([failed("1", "m1", "bob")]);
        given::<Factory>(free)
            .when(let_go())
            .then([FactoryEvent::WorkerLeft { worker: "bob".into() }]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn of_instructions_that_race_for_workers_and_machines_none_is_given_twice() {
        for store in examples::stores().await {
            let factories = store.aggregate::<Factory>();
            for number in 0..5 {
                factories
                    .execute("north", hire(&format!("w{number}"), &["welding"]))
                    .await
                    .unwrap();
                factories.execute("north", install(&format!("m{number}"))).await.unwrap();
            }
            let race = |number: u32| {
                let factories = factories.clone();
                tokio::spawn(async move {
                    factories.execute("north", instruct(&number.to_string(), "weld")).await.is_ok()
                })
            };
            let mut given = 0;
            for racing in (0..20).map(race).collect::<Vec<_>>() {
                given += u32::from(racing.await.unwrap());
            }
            assert_eq!(given, 5);
        }
    }

    #[tokio::test]
    async fn a_part_is_loaded_alone_from_the_stream_of_the_whole() {
        for store in examples::stores().await {
            let factories = store.aggregate::<Factory>();
            let commands = vec![hire("bob", &["welding"]), install("m1")];
            factories.commands("north", commands).execute().await.unwrap();
            for (instruction, list) in [("1", prices(1, 900)), ("2", prices(2, 950))] {
                let commands = vec![instruct(instruction, "weld"), carry_out(instruction, list)];
                factories.commands("north", commands).execute().await.unwrap();
            }
            let earnings = store.aggregate::<Earnings>().load("north").await.unwrap().state;
            assert_eq!(earnings, Earnings { cents: 1_850, pieces: 2 });
        }
    }
}
