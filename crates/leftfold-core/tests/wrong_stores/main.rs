//! Every rule of the conformance suite finds the fault that it is there for: for each there is a
//! store with one thing wrong about it, which breaks this rule and no other.
//!
//! The stores run on one thread, in virtual time: a rule that waits for what will not come is told
//! at once, and races come out the same each time.

mod right;
mod rows;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Once;

use leftfold_testing::conformance::{Case, cases, conformance};
use leftfold_testing::extent;

use right::{Wrong, Wrongs};
use rows::{Row, rows};

/// Rules that try everything at random, and so may find whatever is wrong. Each has a store that
/// only such rules find.
const SWEEPS: [&str; 4] = [
    "model::random_operations_are_those_of_the_memory_backend",
    "query::random_queries_find_what_they_say",
    "concurrency::a_random_history_is_consistent",
    "concurrency::a_random_history_goes_on_after_reopening",
];

/// Rules that take a while. That the stores of other rules keep them is judged in long runs.
const SLOW: [&str; 12] = [
    "append::the_largest_number_of_events_goes_in_at_once",
    "envelope::data_of_every_size_survives",
    "lease::leases_beyond_a_limit_are_refused",
    "limits::a_query_beyond_a_limit_cannot_be_read",
    "limits::what_is_at_a_limit_is_kept",
    "limits::what_is_beyond_a_limit_is_refused",
    "limits::what_was_refused_as_too_much_is_not_there",
    "query::all_items_are_judged_at_one_head",
    "read::nothing_appears_where_a_reader_has_looked",
    "snapshot::a_snapshot_beyond_its_limit_is_not_kept",
    "subscription::a_slow_reader_does_not_hold_up_writers",
    "subscription::it_never_skips_under_load",
];

fn run<T>(judging: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(judging)
}

#[test]
fn every_rule_has_a_store_that_breaks_it() {
    let rules: BTreeSet<&str> = cases::<Wrongs>().iter().map(|case| case.name).collect();
    let broken: Vec<&str> = rows().map(|row| row.rule).collect();
    let mentioned: BTreeSet<&str> = broken.iter().copied().collect();
    assert_eq!(broken.len(), mentioned.len(), "a rule has one store");
    assert_eq!(mentioned, rules);
    let also: BTreeSet<&str> =
        rows().flat_map(|row| row.also).copied().chain(SWEEPS).chain(SLOW).collect();
    assert!(also.is_subset(&rules), "{:?} are no rules", also.difference(&rules));
}

#[test]
fn a_store_without_a_fault_keeps_every_rule() {
    run(conformance(&Wrongs(Wrong::default)));
}

thread_local! {
    /// Set while a panic of this thread is expected.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Panics that are expected are not shown: to write down where each came from would take longer
/// than all else.
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                before(panic);
            }
        }));
    });
}

/// Lists how a row of the table is not as it says.
async fn differences(row: &Row, cases: &[Case<Wrongs>]) -> Vec<String> {
    let factory = Wrongs(row.wrong);
    let mut differences = Vec::new();
    for case in cases {
        let own = case.name == row.rule;
        let may_break = SWEEPS.contains(&case.name);
        if !own && (may_break || (SLOW.contains(&case.name) && extent(0, 1) == 0)) {
            continue;
        }
        let must_break = own || row.also.contains(&case.name);
        QUIET.set(true);
        let judged = case.judge(&factory).await;
        QUIET.set(false);
        if judged.is_err() != must_break {
            differences.push(format!(
                "the store of {} ({}): {} {judged:?}",
                row.rule, row.fault, case.name
            ));
        }
    }
    differences
}

fn each_breaks_its_rule_alone(part: usize, parts: usize) {
    hush();
    let all = run(async {
        let cases = cases::<Wrongs>();
        let mut all = Vec::new();
        for (_, row) in rows().enumerate().filter(|(index, _)| index % parts == part) {
            all.extend(differences(row, &cases).await);
        }
        all
    });
    assert!(all.is_empty(), "{} differences:\n{}", all.len(), all.join("\n"));
}

#[test]
fn each_store_breaks_its_rule_and_no_other() {
    each_breaks_its_rule_alone(0, 2);
}

#[test]
fn each_store_breaks_its_rule_and_no_other_as_well() {
    each_breaks_its_rule_alone(1, 2);
}
