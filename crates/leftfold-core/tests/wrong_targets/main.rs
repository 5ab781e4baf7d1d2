//! Every rule for targets finds the fault that it is there for: for each there is a target with one
//! thing wrong about it, which breaks this rule and no other, in virtual time.

mod fault;
mod ledger;

use std::collections::BTreeSet;

use fault::{Fault, TABLE};
use ledger::Ledgers;
use leftfold_testing::conformance::Case;
use leftfold_testing::target::{cases, cases_of_following, conformance, following};

fn run<T>(judging: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(judging)
}

/// Those of a target by itself, and those of projections in it.
fn all() -> Vec<Case<Ledgers>> {
    cases().into_iter().chain(cases_of_following()).collect()
}

#[test]
fn every_rule_has_a_target_that_breaks_it() {
    let rules: BTreeSet<&str> = all().iter().map(|case| case.name).collect();
    let broken: BTreeSet<&str> = TABLE.iter().map(|(rule, ..)| *rule).collect();
    assert_eq!(broken, rules);
    assert_eq!(broken.len(), TABLE.len(), "a rule has one target");
    let also: BTreeSet<&str> = TABLE.iter().flat_map(|(_, _, also)| *also).copied().collect();
    assert!(also.is_subset(&rules), "{:?} are no rules", also.difference(&rules));
}

#[test]
fn a_target_without_a_fault_keeps_every_rule() {
    run(conformance(&Ledgers(Fault::None)));
    run(following(&Ledgers(Fault::None)));
}

#[test]
fn each_target_breaks_its_rule_and_no_other() {
    let mut differences = Vec::new();
    for (rule, fault, also) in TABLE {
        for case in all() {
            let judged = run(case.judge(&Ledgers(*fault)));
            let must_break = case.name == *rule || also.contains(&case.name);
            if judged.is_err() != must_break {
                differences
                    .push(format!("{fault:?}, which is to break {rule}: {} {judged:?}", case.name));
            }
        }
    }
    assert!(
        differences.is_empty(),
        "{} differences:\n{}",
        differences.len(),
        differences.join("\n")
    );
}
