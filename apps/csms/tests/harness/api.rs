//! The JSON API as a client sees it.

use std::fmt::Write;
use std::net::SocketAddr;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::deadline::until;
use super::http::{self, Reply};
use super::views::{
    EffectView, EnergyView, HistoryItem, Page, Problem, State, StationView, TransactionView,
};

/// A client of the API.
#[derive(Clone)]
pub(crate) struct Api {
    address: SocketAddr,
    token: Option<String>,
}

impl Api {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, token: None }
    }

    pub(crate) fn with_token(&self, token: &str) -> Self {
        Self { address: self.address, token: Some(token.to_owned()) }
    }

    /// Any request; the body goes out as it is.
    pub(crate) fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Reply {
        let bearer = self.token.as_ref().map(|token| format!("Bearer {token}"));
        let mut headers = headers.to_vec();
        headers.extend(bearer.as_deref().map(|bearer| ("Authorization", bearer)));
        if !body.is_empty() {
            headers.push(("Content-Type", "application/json"));
        }
        http::send(self.address, method, path, &headers, body)
    }

    /// A POST to a server that does not live to answer it.
    pub(crate) fn post_in_vain(&self, path: &str, headers: &[(&str, &str)], body: &Value) {
        let body = body.to_string();
        let headers: String =
            headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{headers}",
            self.address
        );
        let reply = http::exchange(
            self.address,
            &format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()),
        );
        assert_eq!(reply, "", "it lived to answer");
    }

    pub(crate) fn fetch(&self, path: &str) -> Reply {
        self.send("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.send("POST", path, &[], &body.to_string())
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Reply {
        self.send("PUT", path, &[], &body.to_string())
    }
}

/// Stations.
impl Api {
    #[track_caller]
    pub(crate) fn station(&self, station: &str) -> StationView {
        self.fetch(&station_path(station, "")).expect(200).view()
    }

    /// The station once it is so.
    #[track_caller]
    pub(crate) fn station_when(
        &self,
        station: &str,
        what: &str,
        is_so: impl Fn(&StationView) -> bool,
    ) -> StationView {
        until(&format!("{station} {what}"), || {
            let reply = self.fetch(&station_path(station, ""));
            if reply.status == 404 {
                return Err(reply.body);
            }
            let view: StationView = reply.expect(200).view();
            if is_so(&view) { Ok(view) } else { Err(format!("{view:?}")) }
        })
    }

    /// The types of all events of the station, oldest first, without their namespace.
    #[track_caller]
    pub(crate) fn history(&self, station: &str) -> Vec<HistoryItem> {
        self.all(&station_path(station, "/history"))
    }

    /// How often an event of that type is in the station's history.
    #[track_caller]
    pub(crate) fn count_in_history(&self, station: &str, event_type: &str) -> usize {
        self.history(station).iter().filter(|item| item.event_type == event_type).count()
    }
}

/// Requests to stations.
impl Api {
    /// Asks for a transaction, and does not wait for the station.
    pub(crate) fn remote_start(&self, station: &str, connector_id: u32, id_tag: &str) -> Reply {
        self.post(
            &station_path(station, "/remote-start"),
            &json!({"connectorId": connector_id, "idTag": id_tag}),
        )
    }

    /// The same under an Idempotency-Key.
    pub(crate) fn remote_start_under(
        &self,
        key: &str,
        station: &str,
        connector_id: u32,
        id_tag: &str,
    ) -> Reply {
        let body = json!({"connectorId": connector_id, "idTag": id_tag}).to_string();
        self.send(
            "POST",
            &station_path(station, "/remote-start"),
            &[("Idempotency-Key", key)],
            &body,
        )
    }

    /// Asks for a transaction, and waits for what the station says.
    pub(crate) fn remote_start_and_wait(
        &self,
        station: &str,
        connector_id: u32,
        id_tag: &str,
    ) -> Reply {
        let body = json!({"connectorId": connector_id, "idTag": id_tag});
        self.post(&station_path(station, "/remote-start?wait=15s"), &body)
    }

    pub(crate) fn remote_stop(&self, station: &str, transaction_id: i64) -> Reply {
        self.post(
            &station_path(station, "/remote-stop?wait=15s"),
            &json!({"transactionId": transaction_id}),
        )
    }

    /// On behalf of a driver, who may only stop what the own group started.
    pub(crate) fn remote_stop_for(
        &self,
        id_tag: &str,
        station: &str,
        transaction_id: i64,
    ) -> Reply {
        let body = json!({"transactionId": transaction_id, "idTag": id_tag});
        self.post(&station_path(station, "/remote-stop?wait=15s"), &body)
    }

    pub(crate) fn unlock(&self, station: &str, connector_id: u32) -> Reply {
        self.post(&station_path(station, "/unlock?wait=15s"), &json!({"connectorId": connector_id}))
    }

    /// Asks for a connector to be kept until then, and waits for what the station says.
    pub(crate) fn reserve(
        &self,
        station: &str,
        connector_id: u32,
        id_tag: &str,
        expiry_date: &str,
    ) -> Reply {
        let body = json!({"connectorId": connector_id, "idTag": id_tag, "expiryDate": expiry_date});
        self.post(&station_path(station, "/reserve?wait=15s"), &body)
    }

    pub(crate) fn cancel_reservation(&self, station: &str, reservation_id: i64) -> Reply {
        self.post(
            &station_path(station, "/cancel-reservation?wait=15s"),
            &json!({"reservationId": reservation_id}),
        )
    }

    /// Asks for an operation by its route, and waits for what the station says.
    pub(crate) fn operate(&self, station: &str, route: &str, payload: &Value) -> Reply {
        self.post(&station_path(station, &format!("/{route}?wait=15s")), payload)
    }

    /// The same, whatever speaks against it.
    pub(crate) fn force(&self, station: &str, route: &str, payload: &Value) -> Reply {
        self.post(&station_path(station, &format!("/{route}?wait=15s&force=true")), payload)
    }

    /// What is known of a station by what was asked of it.
    #[track_caller]
    pub(crate) fn known(&self, station: &str, route: &str) -> Value {
        self.fetch(&station_path(station, &format!("/{route}"))).expect(200).json()
    }

    #[track_caller]
    pub(crate) fn effect(&self, id: &str) -> EffectView {
        self.fetch(&format!("/api/effects/{id}")).expect(200).view()
    }

    /// The effect once it is in that state.
    #[track_caller]
    pub(crate) fn effect_when(&self, id: &str, state: State) -> EffectView {
        until(&format!("effect {id} {state:?}"), || {
            let effect = self.effect(id);
            if effect.state == state { Ok(effect) } else { Err(format!("{effect:?}")) }
        })
    }

    #[track_caller]
    pub(crate) fn effects(&self) -> Vec<EffectView> {
        self.all("/api/effects")
    }

    /// What a person found out.
    pub(crate) fn resolve(&self, id: &str, verdict: &str, reason: &str) -> Reply {
        self.post(
            &format!("/api/effects/{id}/resolve"),
            &json!({"verdict": verdict, "reason": reason}),
        )
    }

    /// What a person found out once the attempt can no longer take place: before that nobody can
    /// know.
    #[track_caller]
    pub(crate) fn resolve_when_over(&self, id: &str, verdict: &str, reason: &str) -> EffectView {
        until(&format!("the end of the attempt of effect {id}"), || {
            let reply = self.resolve(id, verdict, reason);
            if reply.status == 409
                && reply.view::<Problem>().code.as_deref() == Some("effect-under-way")
            {
                return Err(reply.body);
            }
            Ok(reply.expect(200).view())
        })
    }
}

/// Transactions and tags.
impl Api {
    #[track_caller]
    pub(crate) fn transaction(&self, id: i64) -> TransactionView {
        self.fetch(&format!("/api/transactions/{id}")).expect(200).view()
    }

    /// All transactions of a station.
    #[track_caller]
    pub(crate) fn transactions(&self, station: &str) -> Vec<TransactionView> {
        self.all(&format!("/api/transactions?station={}", encoded(station)))
    }

    /// The daily report: day, station, energy in Wh, and of how many transactions.
    #[track_caller]
    pub(crate) fn energy(&self, query: &str) -> Vec<(String, String, i64, i64)> {
        let rows: Vec<EnergyView> = self.all(&format!("/api/energy?{query}"));
        rows.into_iter()
            .map(|row| (row.day, row.station, row.energy_wh, row.transactions))
            .collect()
    }

    /// How the server is: its status, and what its problems are of.
    #[track_caller]
    pub(crate) fn health(&self) -> (String, Vec<String>) {
        let health = self.fetch("/health").json();
        let of = |problem: &Value| problem["of"].as_str().unwrap().to_owned();
        let problems = health["problems"].as_array().unwrap().iter().map(of).collect();
        (health["status"].as_str().unwrap().to_owned(), problems)
    }

    #[track_caller]
    pub(crate) fn define_tag(&self, id_tag: &str, terms: &Value) {
        let reply = self.put(&format!("/api/tags/{}", encoded(id_tag)), terms);
        assert!(matches!(reply.status, 200 | 201), "{reply:?}");
    }

    /// All items of a list, page by page.
    #[track_caller]
    pub(crate) fn all<T: DeserializeOwned>(&self, path: &str) -> Vec<T> {
        let mut items = Vec::new();
        let mut page: Page<T> = self.fetch(path).expect(200).view();
        loop {
            items.append(&mut page.items);
            let Some(next) = page.next else { return items };
            page = self.fetch(&page_path(path, &next)).expect(200).view();
        }
    }
}

/// Where the next page is.
pub(crate) fn page_path(path: &str, next: &Value) -> String {
    let next = next.as_str().map_or_else(|| next.to_string(), str::to_owned);
    let joint = if path.contains('?') { '&' } else { '?' };
    format!("{path}{joint}after={}", encoded(&next))
}

/// The route of a station, or below it.
pub(crate) fn station_path(station: &str, rest: &str) -> String {
    format!("/api/stations/{}{rest}", encoded(station))
}

/// Percent-encoded, so that it is one segment of a path or one value of a query.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(byte.into());
        } else {
            write!(encoded, "%{byte:02X}").expect("a String takes everything");
        }
        encoded
    })
}

impl Reply {
    /// The body as what it stands for.
    #[track_caller]
    pub(crate) fn view<T: DeserializeOwned>(&self) -> T {
        let json = self.json();
        serde_json::from_value(json.clone()).unwrap_or_else(|error| panic!("{error} in {json:#}"))
    }

    /// A request to a station that was taken on: 202, the effect and where it is.
    #[track_caller]
    pub(crate) fn taken_on(self) -> EffectView {
        self.expect(202).view()
    }

    /// A request to a station that was waited for, and came to this.
    #[track_caller]
    pub(crate) fn concluded(self, state: State) -> EffectView {
        let effect: EffectView = self.expect(200).view();
        assert_eq!(effect.state, state, "{effect:?}");
        effect
    }

    /// A refusal by the domain: 409, with this word for programs.
    #[track_caller]
    pub(crate) fn refused(self, code: &str) -> Problem {
        let problem = self.problem(409);
        assert_eq!(problem.code.as_deref(), Some(code), "{problem:?}");
        problem
    }

    /// A problem document (RFC 9457) of that status, which says something.
    #[track_caller]
    pub(crate) fn problem(self, status: u16) -> Problem {
        let reply = self.expect(status);
        let content_type = reply.header("content-type").unwrap_or_default();
        assert!(
            content_type.starts_with("application/problem+json"),
            "{content_type:?}: {reply:?}"
        );
        let problem: Problem = reply.view();
        assert_eq!(problem.status, status, "{problem:?}");
        assert!(!problem.title.is_empty() && !problem.detail.is_empty(), "{problem:?}");
        problem
    }
}
