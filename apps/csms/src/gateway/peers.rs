//! The servers that share the store: which of them live, and where stations are heard.
//!
//! Each server holds a lease of its own as long as it lives. The stations of one that is gone, and
//! that no other one has heard for as long as a station may be silent, are recorded as offline by
//! the server with the lowest id; the store's clock judges who lives, and a server that only stood
//! still learns from the event that it has to record its stations anew. A server that cannot renew
//! its lease for as long as that holds lets its stations go, so that they find another one: it
//! could record nothing of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt, stream};
use leftfold::prelude::{Event, Owners, Position, Timestamp};
use leftfold::store::{Holder, Label, LeaseError, LeaseRequest, Leased};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep};
use uuid::Uuid;

use crate::app::Csms;
use crate::domain::server::ServerId;
use crate::domain::station::{OfflineReason, StationCommand, StationEvent};
use crate::read::fleet::Fleet;

/// Time for which a server that gives no sign counts as alive.
const ALIVE_FOR: Duration = Duration::from_secs(15);
/// Prefix of the names of the servers' leases.
const LEASES: &str = "csms-server:";
/// Stations that are marked at a time.
const MARKED_AT_ONCE: usize = 64;
/// Wait after events could not be read.
const READ_AGAIN: Duration = Duration::from_millis(500);

/// Shows the others that this server lives, and records that the stations of those that are gone
/// are offline, until the system stops.
pub(crate) async fn watch_servers(csms: Arc<Csms>) {
    let renewed = Notify::new();
    tokio::select! {
        () = stay_alive(&csms, &renewed) => {}
        () = let_stations_go(&csms, &renewed) => {}
        () = look_for_gone(&csms) => {}
    }
}

fn turns() -> Interval {
    let mut turns = interval(ALIVE_FOR / 3);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

/// Renews the lease of this server until the system stops, and gives it back then.
async fn stay_alive(csms: &Csms, renewed: &Notify) {
    let (mut turns, mut lease) = (turns(), None);
    let renewing = async {
        loop {
            turns.tick().await;
            match renew(csms).await {
                Ok(Leased::Held(held)) => {
                    lease = Some(held);
                    renewed.notify_one();
                }
                // Nobody else takes the lease of its id.
                Ok(other) => tracing::warn!(?other, "this server's lease is another one's"),
                Err(error) => tracing::warn!(%error, "this server's lease cannot be renewed"),
            }
        }
    };
    tokio::select! {
        () = csms.stopping() => {}
        () = renewing => {}
    }
    if let Some(lease) = lease {
        // Otherwise it ends by itself.
        let _ = csms.store.release(lease).await;
    }
}

async fn renew(csms: &Csms) -> Result<Leased, LeaseError> {
    let ServerId(id) = csms.server;
    let work = Label::new(format!("{LEASES}{id}"))?;
    csms.store.lease(LeaseRequest::new(work, Holder(id), ALIVE_FOR)).await
}

/// Ends the connections of all stations when the lease of this server is over, and takes none until
/// it is renewed. The seconds are counted while this process runs: one that stood still renews its
/// lease first.
async fn let_stations_go(csms: &Csms, renewed: &Notify) {
    let mut seconds = 0;
    loop {
        tokio::select! {
            () = renewed.notified() => {
                seconds = 0;
                if csms.registry.is_shut() {
                    tracing::info!("the store is reached again; stations may connect");
                    csms.registry.reopen();
                }
            }
            () = sleep(Duration::from_secs(1)) => {
                seconds += 1;
                if seconds == ALIVE_FOR.as_secs() {
                    let stations = csms.registry.connected();
                    tracing::error!(stations, "the store cannot be reached; the stations shall find another server");
                    csms.registry.shut();
                }
            }
        }
    }
}

/// Looks for servers that are gone, and marks their stations.
async fn look_for_gone(csms: &Csms) {
    let (mut turns, mut missing) = (turns(), BTreeMap::new());
    loop {
        turns.tick().await;
        match csms.store.leases().await {
            Ok(held) => {
                let server =
                    |work: &Label| work.strip_prefix(LEASES)?.parse::<Uuid>().ok().map(ServerId);
                let live = held.iter().filter_map(|held| server(&held.work)).collect();
                mark_offline(csms, &live, &mut missing).await;
            }
            Err(error) => tracing::warn!(%error, "the other servers cannot be looked for"),
        }
    }
}

/// Marks the stations of servers that have been gone for long enough.
async fn mark_offline(
    csms: &Csms,
    live: &BTreeSet<ServerId>,
    missing: &mut BTreeMap<Option<ServerId>, Instant>,
) {
    let is_gone = |heard_by: &Option<ServerId>| heard_by.is_none_or(|it| !live.contains(&it));
    let gone = |fleet: &Fleet| {
        let mut gone = BTreeMap::<Option<ServerId>, Vec<String>>::new();
        for (id, row) in &fleet.stations {
            if row.state.online && is_gone(&row.state.heard_by) {
                gone.entry(row.state.heard_by).or_default().push(id.clone());
            }
        }
        gone
    };
    let gone = csms.read.fleet(gone).await;
    missing.retain(|server, _| gone.contains_key(server));
    for (heard_by, stations) in gone {
        let since = *missing.entry(heard_by).or_insert_with(Instant::now);
        if since.elapsed() < csms.config.offline_after || live.first() != Some(&csms.server) {
            continue;
        }
        tracing::info!(?heard_by, stations = stations.len(), "a server is gone, and its stations");
        let (at, reason) = (Timestamp::now(), OfflineReason::ServerRestarted);
        let mark = async |station: String| {
            let offline = StationCommand::MarkOffline { at, reason, heard_by };
            if let Err(error) = csms.stations.execute(&station, offline).await {
                tracing::warn!(station, %error, "its being offline could not be recorded");
            }
        };
        stream::iter(stations).map(mark).buffer_unordered(MARKED_AT_ONCE).count().await;
    }
}

/// Event of where a station is heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum HearingFact {
    /// A server hears it.
    #[serde(rename = "station.CameOnline")]
    Heard {
        /// The server.
        #[serde(default)]
        server: Option<ServerId>,
    },
    /// No server hears it.
    #[serde(rename = "station.WentOffline")]
    NotHeard {},
}

impl Event for HearingFact {
    const NAMESPACE: &'static str = "hearing_fact";

    fn owners() -> Owners {
        Owners::of::<StationEvent>()
    }
}

/// Follows where stations are heard, until the system stops: connections here that are older than
/// one to another server end.
pub(crate) async fn follow_stations(csms: Arc<Csms>, after: Position) {
    let mut events = match csms.store.follow::<HearingFact>(after) {
        Ok(events) => events,
        Err(error) => {
            tracing::error!(%error, "where stations are heard cannot be followed");
            return;
        }
    };
    loop {
        let next = tokio::select! {
            () = csms.stopping() => return,
            next = events.next() => next,
        };
        match next {
            Ok(event) => match event.event {
                HearingFact::Heard { server } if server == Some(csms.server) => {}
                HearingFact::Heard { .. } => {
                    csms.registry.connected_elsewhere(event.stream_id(), event.version());
                }
                // Recorded by another one while this server stood still, perhaps.
                HearingFact::NotHeard {} => csms.liveness.forget(event.stream_id()),
            },
            Err(error) => {
                tracing::warn!(%error, "where stations are heard cannot be read");
                sleep(READ_AGAIN).await;
            }
        }
    }
}
