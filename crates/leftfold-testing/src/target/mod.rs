//! Conformance suite for targets of projections, one named rule at a time.
//!
//! A target's test makes a [`Subject`] and awaits [`conformance`], and [`following`] for
//! projections that follow a log into it.

// A rule works on a `stage`. There are rules about one `transaction`, the `note`s beside its rows,
// the `place` of a session, the `version` that serves, and about projections that `follow` a log.

pub mod follow;
pub mod note;
pub mod place;
mod stage;
pub mod transaction;
pub mod version;

use std::future::Future;

use leftfold_core::runtime::projection::{ProjectionError, Rows, Target};

use crate::conformance::Case;

/// Makes the targets that are judged, and writes and reads the rows by which they are.
///
/// A row is a text under a key, in whatever the target keeps rows.
///
/// ```
/// use std::collections::BTreeMap;
///
/// use leftfold_core::runtime::projection::{Memory, ProjectionError};
/// use leftfold_testing::target::{self, Subject};
///
/// struct Map;
/// type Rows = BTreeMap<String, String>;
///
/// impl Subject for Map {
///     type Target = Memory<Rows>;
///     type Home = Memory<Rows>;
///
///     async fn home(&self) -> Memory<Rows> {
///         Memory::new()
///     }
///
///     async fn target(&self, home: &Memory<Rows>) -> Memory<Rows> {
///         home.clone()
///     }
///
///     async fn write(
///         &self,
///         rows: &mut Rows,
///         key: &str,
///         value: &str,
///     ) -> Result<(), ProjectionError> {
///         rows.insert(key.to_owned(), value.to_owned());
///         Ok(())
///     }
///     # async fn set_up(&self, _: &mut Rows) -> Result<(), ProjectionError> { Ok(()) }
///     # async fn remove(&self, rows: &mut Rows, key: &str) -> Result<(), ProjectionError> {
///     #     rows.remove(key);
///     #     Ok(())
///     # }
///     # async fn fail(&self, _: &mut Rows) -> ProjectionError { ProjectionError::message("no") }
///     # async fn read(
///     #     &self, target: &Memory<Rows>, _: &str, version: u32, key: &str,
///     # ) -> Option<String> {
///     #     target.read_version(version, |rows| rows.get(key).cloned()).await.flatten()
///     # }
///     # async fn served(&self, target: &Memory<Rows>, _: &str, key: &str) -> Option<String> {
///     #     target.read(|rows| rows.get(key).cloned()).await
///     # }
///     // And `set_up`, `remove`, `fail`, `read`, `served`.
/// }
///
/// # #[tokio::main] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // In a test of your own: `target::conformance(&Map).await`, which judges all rules.
/// let rule = target::cases::<Map>().into_iter().next().ok_or("there are rules")?;
/// assert_eq!(rule.judge(&Map).await, Ok(()));
/// # Ok(()) }
/// ```
pub trait Subject: Sync {
    /// Target to judge.
    type Target: Target;
    /// Home of the target: a directory, a database. Dropped last.
    type Home: Send + Sync;

    /// A place that has had no target yet.
    fn home(&self) -> impl Future<Output = Self::Home> + Send;

    /// The target that lives there, as a process has it that was just started: what only lives in a
    /// process is not shared with the ones before. If rows do not outlive the process, the one of
    /// this process.
    fn target(&self, home: &Self::Home) -> impl Future<Output = Self::Target> + Send;

    /// Makes what rows need, as a projection would in the first transaction of a version.
    fn set_up(
        &self,
        rows: &mut Rows<Self::Target>,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Writes a row, whether there was one or not.
    fn write(
        &self,
        rows: &mut Rows<Self::Target>,
        key: &str,
        value: &str,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Removes a row.
    fn remove(
        &self,
        rows: &mut Rows<Self::Target>,
        key: &str,
    ) -> impl Future<Output = Result<(), ProjectionError>> + Send;

    /// Does something that the target refuses: a broken statement, if it has statements.
    fn fail(&self, rows: &mut Rows<Self::Target>) -> impl Future<Output = ProjectionError> + Send;

    /// Returns the committed value under a key in a version, whether the version serves or not;
    /// `None` also if there is no such version.
    fn read(
        &self,
        target: &Self::Target,
        name: &str,
        version: u32,
        key: &str,
    ) -> impl Future<Output = Option<String>> + Send;

    /// Returns the value that readers of a projection see under a key: that of the serving version.
    fn served(
        &self,
        target: &Self::Target,
        name: &str,
        key: &str,
    ) -> impl Future<Output = Option<String>> + Send;
}

/// Runs every rule, and fails with the names of those that are broken.
///
/// # Panics
/// If a rule is broken, which is how a test fails.
pub async fn conformance<S: Subject>(subject: &S) {
    crate::conformance::judge_all(&cases::<S>(), subject).await;
}

/// Runs every rule of projections that follow a log into the target, and fails with the names of
/// those that are broken.
///
/// # Panics
/// If a rule is broken, which is how a test fails.
pub async fn following<S: Subject + Send + Clone + 'static>(subject: &S) {
    crate::conformance::judge_all(&cases_of_following::<S>(), subject).await;
}

macro_rules! list {
    (
        $(#[$told:meta])*
        $list:ident<S: $first:ident $(+ $bound:tt)*>, $($file:ident: $($rule:ident),+;)+
    ) => {
        $(#[$told])*
        #[must_use]
        pub fn $list<S: $first $(+ $bound)*>() -> Vec<Case<S>> {
            vec![$($(Case::new(
                concat!("target::", stringify!($file), "::", stringify!($rule)),
                |subject| Box::pin($file::$rule(subject)),
            )),+),+]
        }
    };
}

list! {
    /// Every rule of projections that follow a log.
    cases_of_following<S: Subject + Send + Clone + 'static>,
    follow: a_poison_event_is_parked_and_others_go_on,
        a_rebuild_has_what_the_replay_makes_and_nothing_else,
        a_rebuild_takes_in_what_is_appended_meanwhile, rows_are_the_fold_after_every_event,
        rows_are_the_same_for_batches_of_every_size,
        each_event_goes_in_once_over_orderly_restarts;
}

list! {
    /// Every rule of a target by itself, in the order of the files.
    cases<S: Subject>,
    transaction: what_is_committed_is_there, a_rollback_leaves_nothing,
        a_session_that_is_dropped_leaves_nothing_uncommitted, nobody_sees_what_is_not_committed,
        transactions_follow_each_other, an_empty_transaction_can_be_committed,
        rows_are_replaced_and_removed, many_rows_fit_into_one_transaction,
        events_that_write_nothing_are_passed_over,
        an_event_can_be_applied_again_after_a_rollback,
        a_failed_statement_is_undone_and_is_not_absence, what_users_code_says_is_not_absence;
    note: notes_are_listed_by_prefix_in_order_of_their_bytes,
        a_page_of_notes_begins_after_a_key, notes_are_replaced_and_removed,
        notes_of_the_open_transaction_are_seen, notes_hold_any_bytes;
    place: a_place_has_one_session, a_place_is_free_when_its_session_is_dropped,
        a_home_is_named_alike_by_every_process, versions_are_open_side_by_side,
        lanes_write_at_the_same_time_and_share_notes,
        names_of_every_kind_are_apart;
    version: nothing_serves_at_first, readers_see_the_version_that_serves,
        versions_are_listed_in_order, a_discarded_version_is_gone_and_no_other,
        a_discarded_version_can_be_made_anew, what_was_begun_is_told_from_what_never_was,
        a_version_that_is_written_is_not_discarded, everything_survives_reopening;
}
