//! The endpoint of the stations, with its sockets: `ws://…/ocpp/{identity}`. This file admits a
//! station and upgrades its connection.
//!
//! - `socket`: the task of one connection, which drives a session of [`ocpp`](crate::ocpp)
//! - `report`: what a station reports becomes a command, a confirmation answers it
//! - `silence`: what is recorded of silence and its end
//! - `peers`: the servers that share the store, and where stations are heard

mod peers;
mod report;
mod silence;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::PathRejection;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

pub(crate) use peers::{follow_stations, watch_servers};
pub(crate) use silence::watch_for_silence;

use crate::app::Csms;
use crate::domain::id_tag::Strangers;
use crate::domain::station::is_identity;
use crate::http::{Problem, admit_station};
use crate::ocpp::frame::FRAME_BYTES_MAX;
use crate::ocpp::v16::{CentralRequest, MessageTrigger, SUBPROTOCOL};

/// Bytes that a connection accepts in one message: somewhat more than the session reads, so that
/// the sender of a larger message gets an answer.
const MESSAGE_BYTES_MAX: usize = FRAME_BYTES_MAX + 64 * 1024;
/// Initial size of a connection's read buffer; the library's own 128 KiB are too much for a hundred
/// thousand stations.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Silence after which a newly connected station is asked for a heartbeat; spread up to twice that,
/// since all stations connect at once after a restart.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// Takes a connection.
pub(crate) async fn connect(
    State(csms): State<Arc<Csms>>,
    headers: HeaderMap,
    identity: Result<Path<String>, PathRejection>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Response {
    if let Err(problem) = admit_station(csms.config.strangers(), &headers) {
        return problem.into_response();
    }
    if csms.registry.is_shut() {
        let detail = "the server cannot reach its store; connect to another one, or try again";
        return Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store-away", detail).into_response();
    }
    let unknown =
        |detail| Problem::new(StatusCode::NOT_FOUND, "unknown-station", detail).into_response();
    let Ok(Path(identity)) = identity else {
        return unknown("the identity is no text; percent-encode its UTF-8 bytes");
    };
    if !is_identity(&identity) {
        return unknown(
            "this cannot be an identity; use up to 128 bytes without control characters",
        );
    }
    if csms.config.strangers() == Strangers::Refused {
        match csms.stations.load(&identity).await {
            Ok(station) if station.state.registered => {}
            Ok(_) => {
                return unknown(
                    "the station is not registered; register it with PUT /api/stations/{id}",
                );
            }
            Err(error) => return Problem::from(error).into_response(),
        }
    }
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(_) => {
            let detail = "stations connect here by WebSocket, with the subprotocol ocpp1.6";
            return Problem::new(StatusCode::UPGRADE_REQUIRED, "websocket-required", detail)
                .into_response();
        }
    };
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX);
    let speaks = upgrade.selected_protocol().is_some();
    upgrade.on_upgrade(move |socket| async move {
        if !speaks {
            return turn_away(socket).await;
        }
        let station: Arc<str> = identity.into();
        tokio::spawn(ask(csms.clone(), station.clone()));
        socket::serve(csms, station, socket).await;
    })
}

/// OCPP-J 1.6 section 3.1.2: without a common subprotocol the handshake is completed without that
/// header, and the connection is closed.
async fn turn_away(mut socket: WebSocket) {
    let frame =
        CloseFrame { code: close_code::PROTOCOL, reason: "offer the subprotocol ocpp1.6".into() };
    let _ = socket.send(Message::Close(Some(frame))).await;
}

/// Asks a silent station for a heartbeat, and a station of which no connector is known for its
/// status.
async fn ask(csms: Arc<Csms>, station: Arc<str>) {
    tokio::time::sleep(ASK_AFTER.mul_f64(1.0 + fastrand::f64())).await;
    let trigger = |requested_message| CentralRequest::TriggerMessage {
        requested_message,
        connector_id: None,
    };
    let within = csms.config.call_timeout;
    if !csms.liveness.is_online(&station) {
        let called =
            csms.registry.call(&station, None, &trigger(MessageTrigger::Heartbeat), within).await;
        tracing::debug!(station = &*station, ?called, "asked for a heartbeat");
    }
    let known = csms.stations.load(&station).await;
    if known.is_ok_and(|station| station.state.connectors.keys().all(|id| *id == 0)) {
        let called = csms
            .registry
            .call(&station, None, &trigger(MessageTrigger::StatusNotification), within)
            .await;
        tracing::debug!(station = &*station, ?called, "asked for the state of the connectors");
    }
}
