//! Hearing of what other processes commit, and letting them hear: LISTEN and NOTIFY, with polling
//! below them.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use leftfold_core::store::State;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_postgres::Statement;

use super::error::NotDone;
use super::rows::{self, HEAD};
use super::shared::{LOST, OTHER_LIFE, StoreShared};
use super::values::{DatabaseTime, signed};
use crate::Rows;
use crate::connect::Connected;
use crate::target::place::literal;

/// Time between looks at the head while notifications come.
const POLL: Duration = Duration::from_secs(1);
/// The same if none come, as on a standby.
const POLL_UNNOTIFIED: Duration = Duration::from_millis(50);
/// Least time between two notifications: each takes a lock of the whole server for a moment.
const BETWEEN_NOTIFICATIONS: Duration = Duration::from_millis(4);
/// Wait before another connection is tried.
const CONNECT_AGAIN: Duration = Duration::from_millis(500);
/// A server that does not answer for this long is connected to again.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Seconds in a row without any answer after which the store is shown as away. They are counted
/// while this process runs: one that stood still has missed none.
const UNANSWERED_SECONDS_MAX: u32 = 3;

/// Follows the head until the store is closed, and says if the server cannot be reached.
pub(super) async fn run(shared: Arc<StoreShared>) {
    let mut status = shared.status.subscribe();
    tokio::select! {
        // It ends too when everybody who could close the store is gone.
        _ = status.wait_for(|status| status.state == State::Closed) => {}
        () = follow_for_ever(&shared) => {}
    }
}

async fn follow_for_ever(shared: &StoreShared) {
    let silent = || format!("the server has not answered for {UNANSWERED_SECONDS_MAX} seconds");
    let (mut why, mut unanswered) = (silent(), 0);
    let mut following = pin!(follow_after(shared, Duration::ZERO));
    let mut second = pin!(sleep(Duration::from_secs(1)));
    loop {
        tokio::select! {
            ended = &mut following => {
                if let Err(ended) = ended {
                    tracing::debug!(?ended, "the connection that listens ended");
                    why = ended.to_string();
                }
                following.set(follow_after(shared, CONNECT_AGAIN));
            }
            () = &mut second => {
                second.set(sleep(Duration::from_secs(1)));
                if shared.take_answered() {
                    (why, unanswered) = (silent(), 0);
                    continue;
                }
                unanswered += 1;
                if unanswered >= UNANSWERED_SECONDS_MAX {
                    shared.unanswered(&why);
                }
            }
        }
    }
}

async fn follow_after(shared: &StoreShared, wait: Duration) -> Result<(), NotDone> {
    sleep(wait).await;
    follow(shared).await
}

async fn follow(shared: &StoreShared) -> Result<(), NotDone> {
    let connected = shared.connector.connect().await?;
    shared.connected();
    let schema = &*shared.schema;
    let client = &connected.rows;
    let appends = literal(&format!("{schema}.appends"));
    let look = format!(
        "SELECT {HEAD}, (SELECT a.hash FROM {schema}.appends a WHERE a.append = $1),
            pg_is_in_recovery(), current_setting('transaction_read_only')::boolean,
            has_table_privilege({appends}, 'INSERT'), clock_timestamp()
        FROM {schema}.head h"
    );
    let look = answered(async { Ok(client.prepare(&look).await?) }).await?;
    // A standby cannot listen.
    let listen = format!("LISTEN {schema}");
    let listen = async { Ok(client.batch_execute(&listen).await.is_ok()) };
    let listens = answered(listen).await?;
    let own = async { Ok(client.query_one("SELECT pg_backend_pid()", &[]).await?.try_get(0)?) };
    connected.heard.ignore_own(answered(own).await?);
    let poll = if listens { POLL } else { POLL_UNNOTIFIED };
    let mut notified_at = Instant::now();
    let mut inline = SeenInline { round: None, lacking: None };
    let mut another = pin!(shared.connector.takes_writes_again());
    loop {
        let is_standby = answered(see(shared, &connected, &look, &mut inline)).await?;
        if is_standby == listens {
            // It was promoted, or is another server than before.
            return Ok(());
        }
        let look_again = Instant::now() + poll;
        loop {
            tokio::select! {
                () = connected.heard.news.notified() => break,
                () = &mut another, if !listens => return Ok(()),
                () = sleep_until(look_again) => break,
                () = shared.committed.notified(), if listens => {
                    sleep_until(notified_at + BETWEEN_NOTIFICATIONS).await;
                    notify(client, schema).await?;
                    notified_at = Instant::now();
                }
            }
        }
    }
}

/// Tells other processes that something was committed here.
async fn notify(client: &Rows, schema: &str) -> Result<(), NotDone> {
    answered(async { Ok(client.batch_execute(&format!("NOTIFY {schema}")).await?) }).await
}

/// The inline projections of the store as they were seen last.
struct SeenInline {
    /// Number of their latest change.
    round: Option<i64>,
    /// Reason why this process cannot append, if others registered other ones.
    lacking: Option<String>,
}

/// Looks at the head, and shows it, unless the history is not the one that was shown before. Tells
/// whether the server is a standby.
async fn see(
    shared: &StoreShared,
    connected: &Connected,
    look: &Statement,
    inline: &mut SeenInline,
) -> Result<bool, NotDone> {
    // What is committed meanwhile is in the history that is looked at, too.
    let (known, shown) = shared.shown();
    let row = connected.rows.query_one(look, &[&signed(known)]).await?;
    let head = rows::head(&row, 0)?;
    let next = row.len() - 5;
    let hash: Option<&[u8]> = row.try_get(next)?;
    let is_standby: bool = row.try_get(next + 1)?;
    if head.epoch != i64::from(shared.identity.epoch.number) {
        shared.end(OTHER_LIFE);
    } else if !is_standby && known > 0 && hash != Some(&shown.chain.0) {
        // A standby may only be behind.
        shared.end(LOST);
    } else {
        shared.show(&head);
    }
    let DatabaseTime(now) = row.try_get(next + 4)?;
    let doubt = shared.clock.look(now);
    if inline.round != Some(head.inline_round) {
        let own = &shared.options.inline;
        inline.lacking = own.lacking(&connected.rows, &shared.schema).await?;
        inline.round = Some(head.inline_round);
    }
    let only_reads = |detail: &str| State::ReadOnly { detail: detail.to_owned() };
    shared.followed(if is_standby {
        only_reads("the server is a standby, which takes appends when it is promoted")
    } else if row.try_get(next + 2)? {
        only_reads("transactions only read by default (default_transaction_read_only)")
    } else if !row.try_get(next + 3)? {
        only_reads("the role may not write; grant it what docs/postgres-store.md says")
    } else if let Some(lacking) = &inline.lacking {
        only_reads(lacking)
    } else if let Some(doubt) = &doubt {
        only_reads(doubt)
    } else {
        State::Open
    });
    Ok(is_standby)
}

async fn answered<T>(asking: impl Future<Output = Result<T, NotDone>>) -> Result<T, NotDone> {
    let late = || NotDone::Away(format!("no answer came within {ANSWER_WITHIN:?}"));
    timeout(ANSWER_WITHIN, asking).await.unwrap_or_else(|_| Err(late()))
}
