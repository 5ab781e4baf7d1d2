//! What can be wrong about a target, and the rule that finds it.

/// Fault of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    // Transactions.
    NotesAreNotKept,
    RollbackKeepsNotes,
    DropCommits,
    RowsAreSeenAtOnce,
    TwentyTransactions,
    NothingCannotBeCommitted,
    TheFirstWriteCounts,
    TwoThousandRows,
    GapsAreRefused,
    RolledBackIsDone,
    RefusedIsAway,
    UsersErrorsAreAway,
    // Notes.
    PrefixesArePatterns,
    PagesBeginWithinAPrefix,
    OnlyWhatIsThereIsRemoved,
    OnlyCommittedNotesAreSeen,
    EmptyNotesAreNone,
    // Places.
    EachProcessHasThePlace,
    AnotherProcessKeepsThePlace,
    EachProcessIsAHome,
    VersionsShareNewRows,
    LanesHaveNotesOfTheirOwn,
    NamesAreBeginnings,
    // Versions.
    NothingCannotBeDiscarded,
    NothingServesTwice,
    VersionsAreTexts,
    DiscardingIsByBeginning,
    PlacesOutliveTheirVersion,
    VersionsHaveRows,
    WhatIsWrittenIsDiscarded,
    WhatServesIsForgotten,
    // What the runtime does with them.
    PoisonIsAway,
    RowsAreInherited,
    TheLastIsLostOnServing,
    ReadersAreBehind,
    LongSessionsAreForgotten,
    LargeBatchesAreLost,
}

use Fault as F;

/// Every rule, and the target that breaks it; the other rules that it cannot but break, with the
/// reason.
pub(crate) const TABLE: &[(&str, Fault, &[&str])] = &[
    // Whatever looks at notes looks at what was committed.
    (
        "target::transaction::what_is_committed_is_there",
        F::NotesAreNotKept,
        &[
            "target::transaction::a_rollback_leaves_nothing",
            "target::transaction::a_session_that_is_dropped_leaves_nothing_uncommitted",
            "target::note::notes_are_listed_by_prefix_in_order_of_their_bytes",
            "target::note::notes_are_replaced_and_removed",
            "target::note::notes_of_the_open_transaction_are_seen",
            "target::note::notes_hold_any_bytes",
            "target::place::a_place_is_free_when_its_session_is_dropped",
            "target::place::versions_are_open_side_by_side",
            "target::place::lanes_write_at_the_same_time_and_share_notes",
            "target::version::a_discarded_version_is_gone_and_no_other",
            "target::version::a_version_that_is_written_is_not_discarded",
            "target::version::everything_survives_reopening",
            "target::follow::a_poison_event_is_parked_and_others_go_on",
            "target::follow::a_rebuild_has_what_the_replay_makes_and_nothing_else",
            "target::follow::a_rebuild_takes_in_what_is_appended_meanwhile",
            "target::follow::rows_are_the_fold_after_every_event",
            "target::follow::rows_are_the_same_for_batches_of_every_size",
            "target::follow::each_event_goes_in_once_over_orderly_restarts",
        ],
    ),
    // One of the lanes rolls back.
    (
        "target::transaction::a_rollback_leaves_nothing",
        F::RollbackKeepsNotes,
        &["target::place::lanes_write_at_the_same_time_and_share_notes"],
    ),
    (
        "target::transaction::a_session_that_is_dropped_leaves_nothing_uncommitted",
        F::DropCommits,
        &[],
    ),
    ("target::transaction::nobody_sees_what_is_not_committed", F::RowsAreSeenAtOnce, &[]),
    // A projection goes on for more transactions.
    (
        "target::transaction::transactions_follow_each_other",
        F::TwentyTransactions,
        &["target::follow::rows_are_the_fold_after_every_event"],
    ),
    (
        "target::transaction::an_empty_transaction_can_be_committed",
        F::NothingCannotBeCommitted,
        &[],
    ),
    // What is rebuilt replaces many rows in one transaction.
    (
        "target::transaction::rows_are_replaced_and_removed",
        F::TheFirstWriteCounts,
        &[
            "target::follow::a_rebuild_has_what_the_replay_makes_and_nothing_else",
            "target::follow::a_rebuild_takes_in_what_is_appended_meanwhile",
            "target::follow::rows_are_the_same_for_batches_of_every_size",
        ],
    ),
    ("target::transaction::many_rows_fit_into_one_transaction", F::TwoThousandRows, &[]),
    ("target::transaction::events_that_write_nothing_are_passed_over", F::GapsAreRefused, &[]),
    (
        "target::transaction::an_event_can_be_applied_again_after_a_rollback",
        F::RolledBackIsDone,
        &[],
    ),
    ("target::transaction::a_failed_statement_is_undone_and_is_not_absence", F::RefusedIsAway, &[]),
    ("target::transaction::what_users_code_says_is_not_absence", F::UsersErrorsAreAway, &[]),
    (
        "target::note::notes_are_listed_by_prefix_in_order_of_their_bytes",
        F::PrefixesArePatterns,
        &[],
    ),
    ("target::note::a_page_of_notes_begins_after_a_key", F::PagesBeginWithinAPrefix, &[]),
    ("target::note::notes_are_replaced_and_removed", F::OnlyWhatIsThereIsRemoved, &[]),
    // It lists notes in the transaction that it writes them in.
    (
        "target::note::notes_of_the_open_transaction_are_seen",
        F::OnlyCommittedNotesAreSeen,
        &["target::note::a_page_of_notes_begins_after_a_key"],
    ),
    ("target::note::notes_hold_any_bytes", F::EmptyNotesAreNone, &[]),
    ("target::place::a_place_has_one_session", F::EachProcessHasThePlace, &[]),
    (
        "target::place::a_place_is_free_when_its_session_is_dropped",
        F::AnotherProcessKeepsThePlace,
        &[],
    ),
    ("target::place::a_home_is_named_alike_by_every_process", F::EachProcessIsAHome, &[]),
    ("target::place::versions_are_open_side_by_side", F::VersionsShareNewRows, &[]),
    (
        "target::place::lanes_write_at_the_same_time_and_share_notes",
        F::LanesHaveNotesOfTheirOwn,
        &[],
    ),
    ("target::place::names_of_every_kind_are_apart", F::NamesAreBeginnings, &[]),
    ("target::version::nothing_serves_at_first", F::NothingCannotBeDiscarded, &[]),
    ("target::version::readers_see_the_version_that_serves", F::NothingServesTwice, &[]),
    // It lists versions as well.
    (
        "target::version::versions_are_listed_in_order",
        F::VersionsAreTexts,
        &["target::version::a_discarded_version_is_gone_and_no_other"],
    ),
    ("target::version::a_discarded_version_is_gone_and_no_other", F::DiscardingIsByBeginning, &[]),
    ("target::version::a_discarded_version_can_be_made_anew", F::PlacesOutliveTheirVersion, &[]),
    ("target::version::what_was_begun_is_told_from_what_never_was", F::VersionsHaveRows, &[]),
    (
        "target::version::a_version_that_is_written_is_not_discarded",
        F::WhatIsWrittenIsDiscarded,
        &[],
    ),
    ("target::version::everything_survives_reopening", F::WhatServesIsForgotten, &[]),
    ("target::follow::a_poison_event_is_parked_and_others_go_on", F::PoisonIsAway, &[]),
    (
        "target::follow::a_rebuild_has_what_the_replay_makes_and_nothing_else",
        F::RowsAreInherited,
        &[],
    ),
    // Both rebuild, or wait for events, as the rule for batches does.
    (
        "target::follow::a_rebuild_takes_in_what_is_appended_meanwhile",
        F::TheLastIsLostOnServing,
        &["target::follow::rows_are_the_same_for_batches_of_every_size"],
    ),
    (
        "target::follow::rows_are_the_fold_after_every_event",
        F::ReadersAreBehind,
        &["target::follow::rows_are_the_same_for_batches_of_every_size"],
    ),
    ("target::follow::rows_are_the_same_for_batches_of_every_size", F::LargeBatchesAreLost, &[]),
    (
        "target::follow::each_event_goes_in_once_over_orderly_restarts",
        F::LongSessionsAreForgotten,
        &[],
    ),
];
