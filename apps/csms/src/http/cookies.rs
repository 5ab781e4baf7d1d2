//! How a browser keeps a session: in a cookie that no script reads, and that other sites do not
//! have sent with what they make the browser do.

use axum::http::{HeaderMap, HeaderName, StatusCode, Uri, header};
use axum::response::{AppendHeaders, IntoResponse, Response};

use crate::people::OpenSession;

/// Name of the cookie of a session.
const SESSION: &str = "csms-session";
/// Name of the cookie that marks a browser which logged in before.
const MARK: &str = "csms-browser";
/// Time that the mark is kept, in seconds.
const MARK_SECONDS: u64 = 180 * 24 * 60 * 60;

/// Headers that set cookies.
pub(crate) type SetCookies = AppendHeaders<Vec<(HeaderName, String)>>;

/// Returns the value of the session's cookie; `None` if there is none.
pub(super) fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, SESSION)
}

/// Returns the mark of a browser which logged in before; `None` if it has none.
pub(crate) fn browser_mark(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, MARK)
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    let mut cookies = lines.flat_map(|line| line.split(';')).map(str::trim);
    cookies.find_map(|cookie| cookie.strip_prefix(name)?.strip_prefix('='))
}

/// Returns the headers that have the browser keep a session, and a mark that it logged in.
pub(crate) fn kept_session(
    session: &OpenSession,
    seconds: u64,
    mark: &str,
    headers: &HeaderMap,
) -> SetCookies {
    AppendHeaders(vec![
        set(SESSION, &session.cookie(), seconds, headers),
        set(MARK, mark, MARK_SECONDS, headers),
    ])
}

/// Returns the header that has the browser forget its session.
pub(crate) fn ended_session(headers: &HeaderMap) -> SetCookies {
    AppendHeaders(vec![set(SESSION, "", 0, headers)])
}

/// Links from elsewhere lead to a page, so the cookie is `Lax`; what other pages send is refused by
/// its origin and for want of the token of our pages.
fn set(name: &str, value: &str, seconds: u64, headers: &HeaderMap) -> (HeaderName, String) {
    let secure = if is_encrypted(headers) { "; Secure" } else { "" };
    let cookie =
        format!("{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}");
    (header::SET_COOKIE, cookie)
}

/// Tells whether the browser came by TLS, as the proxy before us says. Whoever says so without a
/// proxy harms no one else: the browser then keeps the cookie to itself.
fn is_encrypted(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text("x-forwarded-proto").is_some_and(|proto| proto.eq_ignore_ascii_case("https"))
        || text("forwarded").is_some_and(|forwarded| forwarded.contains("proto=https"))
}

/// Returns the way to the login page, from where it goes on to the page that was asked for.
pub(super) fn to_login(uri: &Uri) -> Response {
    let wanted = uri.path_and_query().map_or("/", |wanted| wanted.as_str());
    let next: String = wanted
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect();
    let to = format!("/login?next={next}");
    (StatusCode::SEE_OTHER, [(header::LOCATION, to)]).into_response()
}

/// Tells whether a text is a path on this server, and nothing that a browser takes for another one.
pub(crate) fn is_path_of_ours(text: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && c.is_ascii() && c != '\\';
    text.starts_with('/') && !text.starts_with("//") && text.chars().all(is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_login_goes_on_only_to_a_page_of_ours() {
        for own in ["/", "/energy?from=2026-01-01", "/users"] {
            assert!(is_path_of_ours(own), "{own}");
        }
        for foreign in
            ["", "https://evil.example", "//evil.example", "/\\evil.example", "/\r\nX: y", "evil"]
        {
            assert!(!is_path_of_ours(foreign), "{foreign}");
        }
    }

    #[test]
    fn the_cookie_is_found_among_others_and_is_for_encrypted_ways_alone_if_it_came_by_one() {
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, "a=b; csms-session=x.y; csms-sessions=z".parse().unwrap());
        assert_eq!(session_cookie(&headers), Some("x.y"));
        assert!(!set(SESSION, "x", 1, &headers).1.contains("Secure"));
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        let (_, cookie) = set(SESSION, "x", 1, &headers);
        for said in ["Secure", "HttpOnly", "SameSite=Lax", "Path=/", "Max-Age=1"] {
            assert!(cookie.contains(said), "{cookie}");
        }
    }
}
