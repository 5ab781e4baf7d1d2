//! The endpoint of the stations, with its sockets: `ws://…/ocpp/{identity}`. This file upgrades the
//! connection of a station that is admitted.
//!
//! - `admission`: who may connect: the path, the origin, and proofs
//! - `socket`: the task of one connection, which drives a session of [`ocpp`](crate::ocpp)
//! - `report`: what a station reports becomes a command, a confirmation answers it
//! - `follow_up`: what is asked of a station after its start
//! - `silence`: what is recorded of silence and its end
//! - `peers`: the servers that share the store, and where stations are heard

mod admission;
mod follow_up;
mod peers;
mod report;
mod silence;
mod socket;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{FromRequestParts, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use admission::{AdmittedStation, admit};

pub(crate) use admission::is_station_path;
pub(crate) use peers::{follow_stations, watch_servers};
pub(crate) use silence::watch_for_silence;

use crate::app::Csms;
use crate::domain::station::StationCommand;
use crate::http::Problem;
use crate::ocpp::frame::MESSAGE_BYTES_MAX;
use crate::ocpp::v16::{CentralRequest, MessageTrigger, SUBPROTOCOL};

/// Initial size of a connection's read buffer; the library's own 128 KiB are too much for a hundred
/// thousand stations.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Silence after which a newly connected station is asked for a heartbeat; spread up to twice that,
/// since all stations connect at once after a restart.
const ASK_AFTER: Duration = Duration::from_secs(1);

/// Takes a connection.
pub(crate) async fn connect(csms: Arc<Csms>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let AdmittedStation { identity: station, news } = match admit(&csms, &parts).await {
        Ok(admitted) => admitted,
        Err(problem) => return challenge(problem),
    };
    let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, &()).await else {
        let detail = "stations connect here by WebSocket, with the subprotocol ocpp1.6";
        return Problem::new(StatusCode::UPGRADE_REQUIRED, "websocket-required", detail)
            .into_response();
    };
    let mut upgrade = upgrade
        .read_buffer_size(READ_BUFFER_BYTES)
        .write_buffer_size(0)
        .max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX);
    let agreed = agree(&upgrade, csms.config.way_in.lax_subprotocol);
    if let AgreedSubprotocol::On(protocol) = &agreed {
        upgrade.set_selected_protocol(protocol.clone());
    }
    upgrade.on_upgrade(move |socket| async move {
        if agreed == AgreedSubprotocol::Nothing {
            return turn_away(socket).await;
        }
        if let Some(news) = news {
            let recorded = csms.stations.execute(&station, StationCommand::Access(news)).await;
            if let Err(error) = recorded {
                tracing::error!(station = &*station, %error, "how the station connects could not be recorded");
            }
        }
        tokio::spawn(ask(csms.clone(), station.clone()));
        socket::serve(csms, station, socket).await;
    })
}

/// Returns a refusal that names the way to authenticate.
fn challenge(problem: Problem) -> Response {
    let mut response = problem.into_response();
    if response.status() == StatusCode::UNAUTHORIZED {
        let basic = HeaderValue::from_static("Basic realm=\"csms\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, basic);
    }
    response
}

/// Result of looking for a common subprotocol.
#[derive(Debug, PartialEq)]
enum AgreedSubprotocol {
    /// One that the station offers, in its spelling.
    On(HeaderValue),
    /// The station offers none, and is taken for one of OCPP 1.6.
    Unspoken,
    Nothing,
}

/// Looks for the subprotocol among those that the station offers. Lax is what some firmware needs:
/// it spells the name in capitals, or offers nothing.
fn agree(upgrade: &WebSocketUpgrade, is_lax: bool) -> AgreedSubprotocol {
    let offered = || upgrade.requested_protocols();
    let named = |is_it: fn(&[u8]) -> bool| offered().find(|offer| is_it(offer.as_bytes())).cloned();
    let exact = named(|offer| offer == SUBPROTOCOL.as_bytes());
    let in_any_case = || named(|offer| offer.eq_ignore_ascii_case(SUBPROTOCOL.as_bytes()));
    if let Some(protocol) = exact.or_else(|| is_lax.then(in_any_case).flatten()) {
        return AgreedSubprotocol::On(protocol);
    }
    match is_lax && offered().all(HeaderValue::is_empty) {
        true => AgreedSubprotocol::Unspoken,
        false => AgreedSubprotocol::Nothing,
    }
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
