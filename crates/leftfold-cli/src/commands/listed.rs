//! What read models and outboxes have parked, as the applications on a store tell.

use std::collections::BTreeSet;
use std::time::Duration;

use clap::Args;
use leftfold::runtime::operator::{
    ListedItem, NewRequest, OperatorAction, OperatorRequests, RequestState,
};
use leftfold::store::Store;

use super::consumers::runtimes;
use crate::access::StoreArgument;
use crate::failure::CliFailure;

/// Items that are asked for of one runtime, at most about.
const ITEMS_MAX: usize = 1_000;
/// Seconds that each answer is waited for, if the call says nothing else.
const WAIT_SECONDS: u64 = 10;

/// Question to the applications on a store.
#[derive(Clone, Debug, Args)]
pub(crate) struct ListArguments {
    /// Asks the applications on the store what their read models and outboxes have parked, which
    /// is in their targets; questions and answers are records of the store
    #[arg(long)]
    ask: bool,
    /// Asks only the runtime of this name; otherwise each that is known by its lease
    #[arg(long, value_name = "NAME", requires = "ask")]
    runtime: Option<String>,
    /// Your name; if not given, that of the user in the URL
    #[arg(long = "as", value_name = "NAME", requires = "ask")]
    name: Option<String>,
    /// Seconds to wait for each answer
    #[arg(long, value_name = "SECONDS", requires = "ask", default_value_t = WAIT_SECONDS)]
    wait: u64,
}

/// Parked items, each with the name of the runtime that has listed it.
#[derive(Debug, Default)]
pub(crate) struct ListedParked {
    pub(crate) items: Vec<(String, ListedItem)>,
    /// Reason for which not all are listed.
    pub(crate) remark: Option<CliFailure>,
}

/// Asks for what is parked; nothing is listed if nobody is to be asked.
pub(crate) async fn listed(
    place: &StoreArgument,
    list: &ListArguments,
    consumer: Option<&str>,
) -> Result<ListedParked, CliFailure> {
    let mut all = ListedParked::default();
    if !list.ask {
        return Ok(all);
    }
    if place.directory()?.is_some() {
        let text = "whoever writes a directory is alone with it: ask at the address of its server";
        return Err(CliFailure::Usage(text.to_owned()));
    }
    let by = place.person(list.name.as_deref())?;
    let store = place.open_to_write().await?;
    for runtime in asked(&store, list, consumer).await {
        let runtime = runtime.as_deref();
        if let Err(remark) = pages(&store, list, (&by, consumer, runtime), &mut all.items).await {
            all.remark = Some(remark);
        }
    }
    store.close().await?;
    Ok(all)
}

/// Returns the names of the runtimes to ask; `None` stands for whichever answers. One name may be
/// that of several runtimes, of which one answers.
async fn asked(store: &Store, list: &ListArguments, consumer: Option<&str>) -> Vec<Option<String>> {
    if list.runtime.is_some() || consumer.is_some() {
        return vec![list.runtime.clone()];
    }
    let leases = store.leases().await.unwrap_or_default();
    let names: BTreeSet<String> = runtimes(&leases).into_values().collect();
    match names.is_empty() {
        true => vec![None],
        false => names.into_iter().map(Some).collect(),
    }
}

/// Asks for one page after the other.
async fn pages(
    store: &Store,
    list: &ListArguments,
    (by, consumer, runtime): (&str, Option<&str>, Option<&str>),
    items: &mut Vec<(String, ListedItem)>,
) -> Result<(), CliFailure> {
    let requests = OperatorRequests::of(store);
    let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
    let (mut after, mut count) = (None, 0);
    loop {
        let action = OperatorAction::List { consumer: owned(consumer), after };
        let (by, reason) = (by.to_owned(), "leftfold parked --ask".to_owned());
        let asked = NewRequest { action, by: by.clone(), reason, runtime: owned(runtime) };
        let id = requests.ask(asked).await?;
        let status = requests.wait(id, Duration::from_secs(list.wait)).await?;
        match status.map(|status| status.state) {
            Some(RequestState::Listed { runtime, items: page, has_more, .. }) => {
                after = page.last().map(|last| last.place.clone());
                count += page.len();
                items.extend(page.into_iter().map(|item| (runtime.clone(), item)));
                if !has_more {
                    return Ok(());
                }
                if count >= ITEMS_MAX {
                    let text = "there are more: retry or skip some, or choose a --consumer";
                    return Err(CliFailure::Failed(text.to_owned()));
                }
            }
            Some(RequestState::Refused { reason, .. }) => return Err(CliFailure::Failed(reason)),
            _ => {
                // Nobody reads an answer that comes later.
                let _ = requests.withdraw(id, &by, "no answer in time").await;
                let who = runtime.or(consumer).unwrap_or("the application");
                return Err(CliFailure::InDoubt(format!(
                    "{who} did not answer in {} s: look with `leftfold consumers` whether it runs",
                    list.wait
                )));
            }
        }
    }
}
