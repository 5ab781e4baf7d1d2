//! Queries and conditions of the protocol in the words of the store.

use leftfold::store::{
    EventType, Invalid, NoneMatching, Position, Query, QueryItem, Tag, TypeMatch,
};

use super::names::{TAG, TYPE};
use super::wire;

/// Makes a query of the store. A query that is absent or has no items means every event.
pub(super) fn query_of(query: Option<wire::Query>) -> Result<Query, Invalid> {
    let items = query.map(|query| query.items).unwrap_or_default();
    if items.is_empty() {
        return Ok(Query::all());
    }
    let query: Query = items.into_iter().map(item_of).collect::<Result<_, _>>()?;
    query.validate()?;
    Ok(query)
}

fn item_of(item: wire::QueryItem) -> Result<QueryItem, Invalid> {
    let named = |text| EventType::new(TYPE.name_of(text)).map(TypeMatch::Exact);
    let types = item.types.into_iter().map(named).collect::<Result<_, _>>()?;
    let tags = item.tags.into_iter().map(|text| Tag::new(TAG.name_of(text)));
    Ok(QueryItem { types, tags: tags.collect::<Result<_, _>>()?, ..QueryItem::default() })
}

/// Makes the condition of an append. One without a query means every event: it holds while there is
/// none after its position.
pub(super) fn condition_of(condition: wire::AppendCondition) -> Result<NoneMatching, Invalid> {
    let wire::AppendCondition { fail_if_events_match, after } = condition;
    let after = after.map_or(Position::START, Position);
    Ok(NoneMatching { query: query_of(fail_if_events_match)?, after })
}
