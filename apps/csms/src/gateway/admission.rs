//! Admission of stations: by the path that they ask for, and by what else they show.
//!
//! Stations are no browsers: some send an `Origin` of `file://`, or their own name. What is kept
//! out by its `Origin` is a web page of somewhere else in a browser that can reach the server:
//! browsers let any page open a WebSocket to anywhere, and name the page's origin only in that
//! header, as `http://…`, `https://…` or `null`, which the page cannot change.

use std::sync::Arc;

use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use leftfold::prelude::Timestamp;
use leftfold_callers::NotLetIn;
use percent_encoding::percent_decode_str;

use crate::app::{Csms, StationKey};
use crate::domain::id_tag::Strangers;
use crate::domain::station::{
    AccessCommand, SecurityProfile, ShownCredential, StationAccess, StationCredential, is_identity,
};
use crate::http::{ConnectionPeer, ConnectionProof, Problem, refuse_foreign_host};

/// First part of the path of a station.
const ROOM: &str = "ocpp/";

/// Tells whether a path is that of a station, whatever its identity.
pub(crate) fn is_station_path(path: &str) -> bool {
    rest_of(path).is_some()
}

/// Returns what stands behind the first part; some firmware doubles slashes, or adds one at the
/// end.
fn rest_of(path: &str) -> Option<&str> {
    let rest = path.trim_start_matches('/').strip_prefix(ROOM)?.trim_matches('/');
    (!rest.is_empty()).then_some(rest)
}

/// Returns the identity that a path names.
fn identity_in(path: &str) -> Result<String, &'static str> {
    let rest = rest_of(path).filter(|rest| !rest.contains('/'));
    let rest = rest.ok_or("the identity is one part of the path; write / in it as %2F")?;
    let identity = percent_decode_str(rest).decode_utf8();
    let identity =
        identity.map_err(|_| "the identity is no text; percent-encode its UTF-8 bytes")?;
    if !is_identity(&identity) {
        return Err("this cannot be an identity; use up to 128 bytes without control characters");
    }
    Ok(identity.into_owned())
}

/// A station that may connect.
#[derive(Debug)]
pub(super) struct AdmittedStation {
    /// Its identity.
    pub(super) identity: Arc<str>,
    /// Record of the way by which it connects; `None` if that is known.
    pub(super) news: Option<AccessCommand>,
}

/// Checks that a station may connect; the error is the refusal, which is counted.
pub(super) async fn admit(csms: &Csms, parts: &Parts) -> Result<AdmittedStation, Problem> {
    let peer = ConnectionPeer::of(&parts.extensions, &parts.headers, &csms.config.way_in);
    let admitted = judge(csms, parts, &peer).await;
    if admitted.is_err() {
        csms.refusals.count_stranger(peer.prefix());
    }
    admitted
}

async fn judge(
    csms: &Csms,
    parts: &Parts,
    peer: &ConnectionPeer,
) -> Result<AdmittedStation, Problem> {
    let strangers = csms.config.strangers();
    if csms.registry.is_shut() {
        let detail = "the server cannot reach its store; connect to another one, or try again";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "store-away", detail));
    }
    let unknown = |detail| Problem::not_found("unknown-station", detail);
    let identity = identity_in(parts.uri.path()).map_err(unknown)?;
    if strangers == Strangers::Welcome {
        refuse_foreign_host(&parts.headers)?;
    }
    let station = csms.stations.load(&identity).await?.state;
    if strangers == Strangers::Refused && !station.registered {
        let detail = "the station is not registered; register it with PUT /api/stations/{id}";
        return Err(unknown(detail));
    }
    let (profile, shown) = proved(csms, &identity, &station.access, peer, &parts.headers).await?;
    if profile == SecurityProfile::Open {
        refuse_foreign_page(strangers, &identity, &parts.headers)?;
    }
    let least = station.access.profile;
    if profile < least {
        return Err(too_low(profile, least));
    }
    let at = Timestamp::now();
    let is_news = station.access.is_news(profile, shown);
    let news = is_news.then_some(AccessCommand::Connected { profile, shown, at });
    Ok(AdmittedStation { identity: identity.into(), news })
}

/// Returns the profile that a station has proved, and the credential that it showed for it.
async fn proved(
    csms: &Csms,
    identity: &str,
    access: &StationAccess,
    peer: &ConnectionPeer,
    headers: &HeaderMap,
) -> Result<(SecurityProfile, ShownCredential), Problem> {
    if let ConnectionProof::Certificate { name } = &peer.proof {
        return match name.as_deref() == Some(identity) {
            true => Ok((SecurityProfile::Certificate, ShownCredential::Nothing)),
            false => {
                let detail = "the certificate is not that of this station";
                Err(Problem::new(StatusCode::FORBIDDEN, "foreign-certificate", detail))
            }
        };
    }
    let shown = shown(csms, identity, access, peer, headers).await?;
    let profile = match (shown, &peer.proof) {
        (ShownCredential::Nothing, _) => SecurityProfile::Open,
        (_, ConnectionProof::Nothing) => SecurityProfile::Credential,
        (_, _) => SecurityProfile::EncryptedCredential,
    };
    Ok((profile, shown))
}

/// Returns the credential that a station shows. What is shown though the station has none is not
/// looked at: nothing is known that it could be compared with.
async fn shown(
    csms: &Csms,
    identity: &str,
    access: &StationAccess,
    peer: &ConnectionPeer,
    headers: &HeaderMap,
) -> Result<ShownCredential, Problem> {
    let offered = access.offered.as_ref().map(|open| &open.offer.credential);
    let known = [
        (access.credential.as_ref(), ShownCredential::Present),
        (offered, ShownCredential::Offered),
    ];
    let given = headers.get(header::AUTHORIZATION);
    let Some(given) = given.filter(|_| known.iter().any(|(known, _)| known.is_some())) else {
        return Ok(ShownCredential::Nothing);
    };
    let password = password_in(given.as_bytes(), identity).ok_or_else(unauthorized)?;
    let key = StationKey::read(&password);
    let mut chosen = Vec::new();
    for (credential, shown) in known {
        match credential {
            Some(StationCredential::Key { hash })
                if key.is_some_and(|key| csms.station_keys.is_of(identity, key, hash)) =>
            {
                return Ok(shown);
            }
            Some(StationCredential::Password { hash }) => chosen.push((hash.as_str(), shown)),
            Some(StationCredential::Key { .. }) | None => {}
        }
    }
    match csms.bounds.password_of(identity, &chosen, &password, peer.prefix()).await {
        Ok(shown) => Ok(shown),
        Err(NotLetIn::Wrong) => Err(unauthorized()),
        Err(NotLetIn::Busy) => {
            let detail = "too many passwords wait to be compared; try again";
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail))
        }
    }
}

/// Returns the password of basic authentication, which may be any bytes. The name must be the
/// identity.
fn password_in(authorization: &[u8], identity: &str) -> Option<Vec<u8>> {
    let authorization = str::from_utf8(authorization).ok()?;
    let (scheme, rest) = authorization.split_once(' ')?;
    let decoded = BASE64_STANDARD.decode(rest.trim()).ok()?;
    let password = decoded.strip_prefix(identity.as_bytes())?.strip_prefix(b":")?;
    scheme.eq_ignore_ascii_case("basic").then(|| password.to_vec())
}

fn unauthorized() -> Problem {
    let detail = "connect with the identity and the key of the station, by basic authentication";
    Problem::new(StatusCode::UNAUTHORIZED, "credential-required", detail)
}

/// Returns the refusal of a station below its profile.
fn too_low(profile: SecurityProfile, least: SecurityProfile) -> Problem {
    if profile == SecurityProfile::Open && least != SecurityProfile::Certificate {
        return unauthorized();
    }
    let detail = format!(
        "the station has connected by security profile {}; connect by that, or have an operator lower it",
        least.number()
    );
    Problem::new(StatusCode::FORBIDDEN, "security-profile-too-low", detail)
}

/// Refuses a station that shows no proof and may be a web page. In open mode nothing else keeps
/// pages out, so the origin of a page is enough. In closed mode the station is known, and is
/// refused only if a browser speaks, which cannot keep silent about itself.
fn refuse_foreign_page(
    strangers: Strangers,
    identity: &str,
    headers: &HeaderMap,
) -> Result<(), Problem> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let mut origins = headers.get_all(header::ORIGIN).iter().filter_map(|it| it.to_str().ok());
    let is_foreign = origins.any(|origin| is_of_foreign_page(origin, host, identity));
    if is_foreign && (strangers == Strangers::Welcome || is_browser(headers)) {
        let detail = "a web page of another origin is no station";
        return Err(Problem::new(StatusCode::FORBIDDEN, "foreign-origin", detail));
    }
    Ok(())
}

/// Tells whether browsers send such an `Origin` for a page that is not of this server. A host that
/// is a single word and the station's own name is that of no page on the internet.
fn is_of_foreign_page(origin: &str, host: Option<&str>, identity: &str) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return origin == "null" };
    let is_web = ["http", "https"].iter().any(|web| scheme.eq_ignore_ascii_case(web));
    let is_own_name = !authority.contains('.') && authority.eq_ignore_ascii_case(identity);
    is_web && Some(authority) != host && !is_own_name
}

/// Tells whether a browser sent the request: each names itself so, and newer ones say in
/// `Sec-Fetch-…` what for; a page can change neither.
fn is_browser(headers: &HeaderMap) -> bool {
    let agent = headers.get(header::USER_AGENT).map(|agent| agent.as_bytes());
    agent.is_some_and(|agent| agent.starts_with(b"Mozilla/") || agent.starts_with(b"Opera/"))
        || headers.keys().any(|name| name.as_str().starts_with("sec-fetch-"))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use axum::response::IntoResponse;

    use super::*;

    #[test]
    fn an_identity_is_read_from_the_paths_that_stations_send() {
        for (path, identity) in [
            ("/ocpp/CP-1", "CP-1"),
            ("//ocpp/CP-1", "CP-1"),
            ("/ocpp//CP-1/", "CP-1"),
            ("/ocpp/CP-1//", "CP-1"),
            ("/ocpp/a%2Fb", "a/b"),
            ("/ocpp/%2Fa%2f", "/a/"),
            ("/ocpp/two%20words", "two words"),
            ("/ocpp/M%C3%BCnchen+1", "M\u{fc}nchen+1"),
            ("/ocpp/M\u{fc}nchen", "M\u{fc}nchen"),
            ("/ocpp/100%", "100%"),
        ] {
            assert_eq!(identity_in(path).as_deref(), Ok(identity), "{path}");
        }
        let long = format!("/ocpp/{}", "x".repeat(129));
        for path in ["/ocpp/%FF", "/ocpp/a/b", "/ocpp/%00", "/ocpp/a%0Ab", &long] {
            assert!(is_station_path(path) && identity_in(path).is_err(), "{path}");
        }
        for path in ["/ocpp", "/ocpp/", "//ocpp//", "/api/ocpp/CP-1", "/ocpp2/CP-1", "/", ""] {
            assert!(!is_station_path(path), "{path}");
        }
    }

    fn status(
        strangers: Strangers,
        host: &'static str,
        origin: Option<&'static str>,
        agent: &'static str,
    ) -> Result<(), StatusCode> {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static(host));
        headers.insert(header::USER_AGENT, HeaderValue::from_static(agent));
        origin.map(|origin| headers.insert(header::ORIGIN, HeaderValue::from_static(origin)));
        refuse_foreign_page(strangers, "CP-1", &headers)
            .map_err(|problem| problem.into_response().status())
    }

    const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
    const OURS: &str = "127.0.0.1:8180";

    /// In open mode any page in the operator's browser could open ws://127.0.0.1:8180/ocpp/X and be
    /// a station.
    #[test]
    fn a_web_page_of_somewhere_else_is_no_station() {
        let forbidden = Err(StatusCode::FORBIDDEN);
        for origin in
            ["https://evil.example", "null", "http://127.0.0.1:3000", "HTTP://x", "http://"]
        {
            for agent in [FIREFOX, ""] {
                assert_eq!(status(Strangers::Welcome, OURS, Some(origin), agent), forbidden);
            }
            assert_eq!(status(Strangers::Refused, OURS, Some(origin), FIREFOX), forbidden);
        }
        assert_eq!(
            status(Strangers::Welcome, OURS, Some("http://127.0.0.1:8180"), FIREFOX),
            Ok(()),
            "its own page"
        );
    }

    #[test]
    fn a_password_is_any_bytes_behind_the_identity() {
        let shown = |text: &[u8]| {
            let basic = format!("Basic {}", BASE64_STANDARD.encode(text));
            password_in(basic.as_bytes(), "CP:1")
        };
        assert_eq!(shown(b"CP:1:\xff\x00:").as_deref(), Some(&b"\xff\x00:"[..]));
        assert_eq!(shown(b"CP:2:secret"), None);
        assert_eq!(shown(b"CP:1"), None);
        for nonsense in ["", "Basic", "Basic ???", "Bearer Q1A6MTp4"] {
            assert_eq!(password_in(nonsense.as_bytes(), "CP:1"), None);
        }
    }

    /// Libraries for firmware send one; such stations could not connect at all.
    #[test]
    fn a_station_may_send_an_origin_that_no_browser_sends_for_a_web_page() {
        for origin in [None, Some("file://"), Some("CP-1"), Some("http://cp-1"), Some("")] {
            assert_eq!(status(Strangers::Welcome, OURS, origin, "lws"), Ok(()), "{origin:?}");
        }
        for origin in [Some("http://192.0.2.7"), Some("https://charger.example")] {
            assert_eq!(status(Strangers::Refused, "csms.example", origin, "lws"), Ok(()));
        }
    }
}
