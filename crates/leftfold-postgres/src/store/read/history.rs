//! The history append by append, as the chain covers it: what the rows say now.

use leftfold_core::store::{
    AppendsFrom, HistoryEnd, HistoryFrom, HistoryKind, HistoryLink, HistoryPage, HistoryRule,
    PageRoom, Position, ReadError,
};

use super::{appends, lookups};
use crate::store::chain::{self, Link};
use crate::store::shared::StoreShared;

/// Reads a page of links.
pub(in crate::store) async fn page(
    shared: &StoreShared,
    from: HistoryFrom,
    page_bytes: u32,
) -> Result<HistoryPage, ReadError> {
    let stored = appends::stored(shared, from.link, page_bytes).await?;
    let first = stored.appends.first().map_or(stored.last + 1, |(append, _)| append.number);
    let before = lookups::hash_of_append(shared, first.saturating_sub(1)).await?;
    let head = stored.head.head;
    let mut page = HistoryPage::empty(HistoryRule::Sha256Field, before, from, head);
    let mut room = PageRoom::of(page_bytes, from);
    for (append, events) in &stored.appends {
        let link = Link {
            number: append.number,
            recorded_at: append.recorded_at,
            events,
            command: append.command.as_ref().map(|command| &command.record),
            checkpoint: append.checkpoint.as_ref().map(|(consumer, at)| (consumer, at)),
        };
        let position = append.first.0 + append.events.saturating_sub(1);
        let end = HistoryEnd { hash: append.hash, position: Position(position) };
        let link = HistoryLink {
            kind: HistoryKind::Records,
            version: 1,
            hashed: chain::hashed(&link).into(),
            end: Some(end),
        };
        let this = AppendsFrom::Mark(append.number - 1);
        if !page.push(link, (this, AppendsFrom::Mark(append.number)), &mut room) {
            break;
        }
    }
    Ok(page)
}
