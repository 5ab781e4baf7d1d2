//! The conformance suite: what every backend owes, one named rule at a time.
//!
//! A backend's test makes a [`Factory`] and awaits [`conformance`] on a runtime with several
//! threads:
//!
//! ```
//! use leftfold_core::store::Store;
//! use leftfold_testing::conformance::{Factory, Reopens, one};
//!
//! struct Memory;
//! impl Factory for Memory {
//!     type Place = ();
//!     const REOPENS: Reopens = Reopens::No;
//!     async fn place(&self) {}
//!     async fn open(&self, _: &()) -> Store {
//!         Store::memory()
//!     }
//! }
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
//! # runtime.block_on(async {
//! one(&Memory, "append::positions_count_up_from_one_without_gaps").await;
//! # });
//! ```

// Rules about what is written: `append`, `condition`, `command`, `checkpoint`, `lease`, `envelope`,
// `limits`, `snapshot`. About what is read: `read`, `query`, `appends`, `subscription`, `time`,
// `hash`. About both at once and over the life of a store: `concurrency`, `model`, `durability`,
// `close`, `fault`. They judge a `subject`, with `examples` of requests.

pub mod append;
pub mod appends;
pub mod checkpoint;
pub mod close;
pub mod command;
pub mod concurrency;
pub mod condition;
pub mod durability;
pub mod envelope;
mod examples;
pub mod fault;
pub mod hash;
pub mod lease;
pub mod limits;
pub mod model;
pub mod query;
pub mod read;
pub mod snapshot;
mod subject;
pub mod subscription;
pub mod time;

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use leftfold_core::store::Store;

/// Makes the stores that are judged.
///
/// A store in a directory, say, keeps its data; the suite then opens it again. Here it is one in
/// memory, which does not:
///
/// ```
/// use leftfold_core::store::Store;
/// use leftfold_testing::conformance::{self, Factory, Reopens};
///
/// struct Memory;
///
/// impl Factory for Memory {
///     /// A store in a directory has its path here, or a guard that removes it.
///     type Place = ();
///     const REOPENS: Reopens = Reopens::No;
///
///     async fn place(&self) {}
///
///     async fn open(&self, (): &()) -> Store {
///         Store::memory()
///     }
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // In a test of your own: `conformance::conformance(&Memory).await`, which judges all rules.
/// let rules = conformance::cases::<Memory>();
/// assert!(rules.len() > 100);
/// assert_eq!(rules[0].judge(&Memory).await, Ok(()));
/// # Ok(()) }
/// ```
pub trait Factory: Sync {
    /// Home of one store: a directory, a database. It is dropped after the store, which was told to
    /// close and may still be closing.
    type Place: Send + Sync;

    /// Tells whether stored data is still there when the same place is opened again.
    const REOPENS: Reopens;

    /// A place that has had no store yet.
    fn place(&self) -> impl Future<Output = Self::Place> + Send;

    /// Opens the store at a place; at a new place, an empty one. The store that was open there has
    /// been closed.
    fn open(&self, place: &Self::Place) -> impl Future<Output = Store> + Send;

    /// Another handle on a store that is open: as another process would open it, for a backend that
    /// lets several; or else a clone.
    fn open_beside(
        &self,
        _place: &Self::Place,
        store: &Store,
    ) -> impl Future<Output = Store> + Send {
        std::future::ready(store.clone())
    }

    /// Returns the means to make the disk of a place fail. If it is `None`, the rules about failing
    /// disks are not judged.
    fn faults(&self, _place: &Self::Place) -> Option<Box<dyn Faults>> {
        None
    }

    /// Returns the means to let hours pass for the store at a place. If it is `None`, the rules
    /// about what is forgotten after hours are not judged.
    fn time(&self, _place: &Self::Place) -> Option<Box<dyn PassingTime>> {
        None
    }
}

/// Lets time pass for a store.
pub trait PassingTime: Send + Sync {
    /// Sets the clock by which leases are judged ahead: from now on so much more has passed.
    fn pass(&self, during: Duration);
}

/// Makes the disk under a store fail, once.
pub trait Faults: Send + Sync {
    /// From now on the n-th write fails half-way; 1 is the next.
    fn fail_write(&self, nth: u32);

    /// From now on the n-th read fails; 1 is the next.
    fn fail_read(&self, nth: u32);

    /// Takes back what has not failed yet. Says if something failed since the last call.
    fn take_back(&self) -> Failed;
}

/// Tells whether the planned fault took place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// It did.
    Yes,
    /// It was not used.
    No,
}

/// Tells whether a store outlives its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reopens {
    /// It does; the rules about reopening are judged.
    Yes,
    /// It does not: instead of reopening it, the suite goes on with the same one.
    No,
}

/// Runs every rule, and fails with the names of those that are broken.
///
/// # Panics
/// If a rule is broken, which is how a test fails.
pub async fn conformance<F: Factory>(factory: &F) {
    judge_all(&cases::<F>(), factory).await;
}

pub(super) async fn judge_all<F>(cases: &[Case<F>], factory: &F) {
    let mut broken = Vec::new();
    for case in cases {
        if let Err(how) = case.judge(factory).await {
            eprintln!("conformance: {}: {how}", case.name);
            broken.push(format!("{}: {how}", case.name));
        }
    }
    let (count, all) = (broken.len(), cases.len());
    assert!(broken.is_empty(), "{count} of {all} rules are broken:\n{}", broken.join("\n"));
}

/// Runs the rule of one name, as it stands in [`cases`].
///
/// # Panics
/// If the rule is broken, or there is none of that name.
pub async fn one<F: Factory>(factory: &F, name: &str) {
    let case = cases::<F>().into_iter().find(|case| case.name == name);
    let case = case.unwrap_or_else(|| panic!("there is no rule {name:?}, see conformance::cases"));
    if let Err(how) = case.judge(factory).await {
        panic!("{name}: {how}");
    }
}

/// One rule.
pub struct Case<F> {
    /// The module and the function that says it.
    pub name: &'static str,
    run: for<'f> fn(&'f F) -> Running<'f>,
}

pub(super) type Running<'f> = Pin<Box<dyn Future<Output = ()> + 'f>>;

impl<F> Case<F> {
    /// A rule that takes longer than this waits for something that will not come.
    const PATIENCE: Duration = Duration::from_secs(60);

    pub(super) fn new(name: &'static str, run: for<'f> fn(&'f F) -> Running<'f>) -> Self {
        Self { name, run }
    }

    /// Runs the rule; the error says how it is broken.
    pub async fn judge(&self, factory: &F) -> Result<(), String> {
        let mut running = (self.run)(factory);
        // Nothing of a rule is used after its panic: its store and place are dropped with it.
        let caught = std::future::poll_fn(move |context| {
            match catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(context))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(())) => Poll::Ready(Ok(())),
                Err(panic) => {
                    let text = panic.downcast_ref::<String>().cloned();
                    let text =
                        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
                    Poll::Ready(Err(text.unwrap_or_else(|| "it panicked".to_owned())))
                }
            }
        });
        let hung = || Err(format!("it was not done after {:?}", Self::PATIENCE));
        tokio::time::timeout(Self::PATIENCE, caught).await.unwrap_or_else(|_| hung())
    }
}

macro_rules! list {
    ($($file:ident: $($rule:ident),+;)+) => {
        /// Every rule, in the order of the files.
        #[must_use]
        pub fn cases<F: Factory>() -> Vec<Case<F>> {
            vec![$($(Case::new(
                concat!(stringify!($file), "::", stringify!($rule)),
                |factory| Box::pin($file::$rule(factory)),
            )),+),+]
        }
    };
}

list! {
    append: positions_count_up_from_one_without_gaps, versions_count_the_events_of_each_stream,
        a_batch_over_streams_stands_together, a_batch_is_all_or_nothing,
        an_append_without_events_takes_no_position, an_append_does_not_conflict_with_itself,
        what_is_answered_can_be_read, a_request_is_carried_out_without_its_caller,
        a_caller_may_leave_after_any_poll, the_same_batch_twice_goes_in_twice,
        the_largest_number_of_events_goes_in_at_once;
    condition: expectations_hold_for_streams_that_are_written,
        expectations_hold_for_streams_that_are_not_written,
        the_first_expectation_that_fails_is_reported, streams_and_query_must_both_hold,
        a_query_looks_only_after_its_position, each_query_of_a_condition_has_its_own_position,
        the_first_query_that_fails_is_reported, every_kind_of_query_can_be_a_condition,
        a_condition_without_events_is_judged, a_conflict_tells_enough_to_try_again,
        names_that_look_alike_are_told_apart, conditions_see_what_was_before_reopening;
    command: a_repeated_request_is_answered_as_first, a_request_without_events_is_remembered,
        other_bytes_under_one_id_are_refused, the_id_is_looked_at_before_the_condition,
        an_append_that_was_refused_leaves_its_id_free, an_unknown_id_has_no_answer,
        answers_are_remembered_for_ever, of_concurrent_requests_one_takes_effect,
        of_concurrent_requests_with_other_bytes_one_takes_effect, answers_of_every_size_survive;
    checkpoint: an_unknown_consumer_stands_nowhere, a_checkpoint_comes_back_as_it_was_recorded,
        a_move_from_exactly_one_place_needs_the_consumer_there,
        a_move_from_earlier_must_advance, a_move_from_anywhere_may_go_back,
        consumers_sources_and_partitions_stand_apart, a_checkpoint_is_atomic_with_the_events,
        of_two_runners_only_one_moves_on, checkpoints_survive_reopening;
    lease: of_all_who_ask_one_holds_the_work, the_same_holder_renews_under_the_same_fence,
        every_work_is_leased_by_itself, work_whose_lease_is_over_goes_to_the_next,
        work_that_was_given_back_is_free, giving_back_what_was_lost_changes_nothing,
        an_append_under_an_earlier_fence_writes_nothing,
        a_lease_that_is_over_still_fences_until_another_has_the_work,
        a_lease_that_ended_long_ago_is_forgotten, a_fence_that_was_never_given_is_refused,
        appends_without_a_fence_go_in_whoever_holds_what,
        a_repeated_command_is_answered_whatever_its_fence,
        the_fence_is_looked_at_before_the_condition,
        a_new_holder_sees_all_that_earlier_ones_did, leases_that_are_held_are_listed,
        a_note_is_kept_as_long_as_its_lease, a_note_beyond_its_limit_is_refused,
        leases_beyond_a_limit_are_refused, fences_grow_over_reopening;
    envelope: every_field_survives, a_trace_context_survives, any_text_survives,
        data_of_every_size_survives, every_read_finds_the_same_event,
        minted_ids_are_version_7_and_distinct, minted_ids_are_never_given_again,
        ids_that_callers_brought_are_found, ids_are_the_same_after_reopening;
    limits: what_is_beyond_a_limit_is_refused, what_is_at_a_limit_is_kept,
        a_query_beyond_a_limit_cannot_be_read, what_was_refused_as_too_much_is_not_there,
        names_of_the_runtime_are_refused_from_an_application;
    read: an_empty_store_has_nothing, forwards_and_backwards_are_the_same_events,
        a_read_begins_where_it_is_told, a_stream_is_read_by_version, pages_continue_exactly,
        a_page_is_bounded_by_its_bytes, one_event_is_always_returned,
        a_page_of_none_tells_where_things_stand, through_covers_everything_that_matches,
        an_absent_stream_has_no_events, a_read_sees_a_prefix_while_writers_go_on,
        a_page_counts_what_all_items_find, nothing_appears_where_a_reader_has_looked,
        a_read_under_way_stays_as_it_began, a_stream_tells_where_it_stands;
    query: types_are_alternatives, all_tags_must_be_there, items_are_alternatives,
        an_item_restricts_by_everything_it_names, streams_are_found_by_name_category_and_prefix,
        types_are_found_by_prefix, system_events_are_found_only_where_they_are_meant,
        names_of_every_kind_are_matched_exactly, random_queries_find_what_they_say,
        the_order_of_items_changes_nothing, all_items_are_judged_at_one_head;
    subscription: it_catches_up_and_then_follows, it_says_when_it_has_caught_up,
        it_reports_progress_past_what_does_not_match, it_resumes_from_a_checkpoint,
        a_checkpoint_of_another_store_is_refused, a_checkpoint_ahead_of_the_store_is_refused,
        a_checkpoint_of_another_history_is_refused, a_slow_reader_does_not_hold_up_writers,
        it_never_skips_under_load, a_cancelled_wait_loses_nothing;
    time: recorded_time_strictly_increases, the_clock_is_the_one_of_recorded_times,
        a_moment_maps_to_the_last_position_at_it,
        the_answer_for_a_moment_never_changes, time_goes_on_after_reopening;
    appends: appends_come_back_whole_and_in_order, an_append_is_never_split_over_pages,
        appends_are_read_from_after_a_position, a_mark_goes_on_with_what_comes_later,
        leases_are_no_appends;
    hash: the_start_has_the_empty_hash_and_the_future_none, a_hash_never_changes,
        histories_differ_by_their_hashes, the_chain_of_the_head_covers_everything,
        the_history_gives_all_hashes_again, a_history_is_read_from_any_place;
    snapshot: a_snapshot_is_what_was_kept_or_nothing, a_snapshot_beyond_its_limit_is_not_kept;
    durability: the_identity_survives_reopening, everything_survives_reopening, stores_are_apart;
    close: a_closed_store_says_so, what_was_handed_over_is_answered, closing_again_is_no_error,
        a_waiting_subscription_ends, a_subscription_that_was_not_waiting_ends;
    concurrency: concurrent_appends_all_land, one_of_those_who_expect_the_same_version_wins,
        there_is_no_write_skew, there_is_no_write_skew_over_several_queries,
        handles_see_each_other, boundaries_apart_never_conflict, a_random_history_is_consistent,
        a_random_history_goes_on_after_reopening;
    fault: a_write_that_fails_leaves_nothing, a_read_that_fails_is_an_error;
    model: random_operations_are_those_of_the_memory_backend;
}
