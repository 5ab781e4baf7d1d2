//! Verification of the table of tags, by which events are found: it has the tags of all events, and
//! no others.

use leftfold_core::store::ReadError;

use super::lookups::{misread, number, query};
use crate::store::shared::StoreShared;
use crate::store::values::{at_most_signed, unsigned};

/// Pages of the table, of 8 KiB each, that are counted at once.
const PAGES_AT_ONCE: i64 = 4_096;

/// Sees that the table has the tags of the events at some positions.
pub(super) async fn verify(
    shared: &StoreShared,
    (first, last): (u64, u64),
) -> Result<(), ReadError> {
    let ask = "SELECT min(e.position) FROM {schema}.events e, unnest(e.tags) AS t (tag)
        WHERE e.position BETWEEN $1 AND $2 AND NOT EXISTS (SELECT FROM {schema}.tags i
            WHERE i.tag = t.tag COLLATE \"C\" AND i.position = e.position)";
    let found = query(shared, ask, &[&at_most_signed(first), &at_most_signed(last)]).await?;
    match number(&found)? {
        None => Ok(()),
        Some(position) => Err(ReadError::Damaged {
            place: "table tags".to_owned(),
            detail: format!("a tag of the event at {position} is missing"),
        }),
    }
}

/// Returns the number of rows of the table, up to a position. It reads the pages of the table in
/// their order, which takes a tenth of the time of reading the rows in the order of an index, and
/// tells after each part of them how many rows were counted.
pub(super) async fn count(
    shared: &StoreShared,
    last: u64,
    mut progress: impl FnMut(u64),
) -> Result<u64, ReadError> {
    let (mut file, mut from, mut counted) = (None, 0, 0);
    loop {
        let now = file_of(shared).await?;
        if *file.get_or_insert(now) != now {
            // It was written anew (VACUUM FULL): the rows are on other pages.
            (file, from, counted) = (None, 0, 0);
            continue;
        }
        let (pages, found) = count_pages(shared, from, last).await?;
        counted += found;
        from += PAGES_AT_ONCE;
        if from < pages {
            progress(counted);
        } else if file_of(shared).await? == now {
            progress(counted);
            return Ok(counted);
        }
    }
}

/// Returns the number of the file that the table is in.
async fn file_of(shared: &StoreShared) -> Result<u32, ReadError> {
    let ask = "SELECT pg_relation_filenode($1::text::regclass)";
    let found = query(shared, ask, &[&table(shared)]).await?;
    // A SELECT without FROM has one row.
    found.first().map_or(Err(ReadError::Closed), |row| row.try_get(0).map_err(misread))
}

fn table(shared: &StoreShared) -> String {
    format!("{}.tags", shared.schema)
}

/// Counts rows up to a position on some pages, from one on. Also returns the number of all pages.
async fn count_pages(shared: &StoreShared, from: i64, last: u64) -> Result<(i64, u64), ReadError> {
    // Only rows of known places are looked at, and no index has them in this order.
    let ask = "SELECT pg_relation_size($4::text::regclass)
                / current_setting('block_size')::bigint, count(*) FROM {schema}.tags
        WHERE ctid >= $1::text::tid AND ctid < $2::text::tid AND position <= $3";
    let place = |page: i64| format!("({page},0)");
    let (first, end) = (place(from), place(from + PAGES_AT_ONCE));
    let last = at_most_signed(last);
    let found = query(shared, ask, &[&first, &end, &last, &table(shared)]).await?;
    let row = found.first().ok_or(ReadError::Closed)?;
    let counted = unsigned(row.try_get(1).map_err(misread)?);
    Ok((row.try_get(0).map_err(misread)?, counted))
}
