//! Filling a store as its users would: many writers, one event an append.

use std::sync::Arc;

use leftfold_core::store::{Append, NewEvent, Outcome as Answer, Store};

use crate::Outcome;
use crate::workload;

/// Tasks that append at once.
pub(crate) const WRITERS: u64 = 256;

/// Appends a number of events, spread evenly over a number of streams: two events of one stream lie
/// about as far apart as there are streams.
pub(crate) async fn load(store: &Store, events: u64, streams: u64) -> Outcome {
    let templates: Arc<[NewEvent]> = (0..streams).map(workload::event).collect::<Outcome<_>>()?;
    let write = |writer: u64| {
        let (store, templates) = (store.clone(), Arc::clone(&templates));
        async move {
            for number in (writer..events).step_by(WRITERS as usize) {
                let event = templates[(number % streams) as usize].clone();
                match store.append(Append::of(vec![event])).await? {
                    Answer::Appended(_) => {}
                    other => {
                        return Err(format!(
                            "an append without a condition was answered with {other:?}"
                        )
                        .into());
                    }
                }
            }
            Outcome::Ok(())
        }
    };
    let writers: Vec<_> = (0..WRITERS).map(|writer| tokio::spawn(write(writer))).collect();
    for writer in writers {
        writer.await??;
    }
    Ok(())
}
