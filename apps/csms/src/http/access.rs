//! Who may call which route: the least role for each, in one table. A test holds it complete.

use axum::http::Method;

use super::Problem;
use crate::domain::person::AccessRole;
use AccessRole::{Admin, Operator, Viewer};

/// Callers that a route admits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody, known or not.
    Anybody,
    /// Callers of this role, or one with more rights.
    From(AccessRole),
}

/// Routes with the methods that they take; the paths as they are routed. A route that is missing is
/// for admins.
const ACCESS: &[(&str, &str, Access)] = &[
    ("GET", "/health", Access::Anybody),
    ("GET", "/login", Access::Anybody),
    ("POST", "/login", Access::Anybody),
    ("POST", "/api/login", Access::Anybody),
    ("GET", "/dashboard.css", Access::Anybody),
    ("GET", "/dashboard.js", Access::Anybody),
    ("GET", "/people.js", Access::Anybody),
    // Pages.
    ("GET", "/", Access::From(Viewer)),
    ("GET", "/live", Access::From(Viewer)),
    ("GET", "/transactions", Access::From(Viewer)),
    ("GET", "/energy", Access::From(Viewer)),
    ("GET", "/account", Access::From(Viewer)),
    ("GET", "/users", Access::From(Admin)),
    // One's own login.
    ("GET", "/api/me", Access::From(Viewer)),
    ("POST", "/api/logout", Access::From(Viewer)),
    // Of others this is for admins, as the route itself says.
    ("POST", "/api/users/{id}/password", Access::From(Viewer)),
    // Looking.
    ("GET", "/api/stations", Access::From(Viewer)),
    ("GET", "/api/stations/{id}", Access::From(Viewer)),
    ("GET", "/api/stations/{id}/history", Access::From(Viewer)),
    ("GET", "/api/stations/{id}/availability", Access::From(Viewer)),
    ("GET", "/api/stations/{id}/configuration", Access::From(Viewer)),
    ("GET", "/api/stations/{id}/local-list", Access::From(Viewer)),
    ("GET", "/api/stations/{id}/charging-profiles", Access::From(Viewer)),
    ("GET", "/api/stations/{id}/composite-schedule", Access::From(Viewer)),
    ("GET", "/api/stations/{id}/firmware", Access::From(Viewer)),
    ("GET", "/api/stations/{id}/diagnostics", Access::From(Viewer)),
    ("GET", "/api/stations/{id}/security-events", Access::From(Viewer)),
    ("GET", "/api/stations/{id}/certificates", Access::From(Viewer)),
    ("GET", "/api/stations/{id}/violations", Access::From(Viewer)),
    ("GET", "/api/transactions", Access::From(Viewer)),
    ("GET", "/api/transactions/{id}", Access::From(Viewer)),
    ("GET", "/api/transactions/{id}/signed-meter-values", Access::From(Viewer)),
    ("GET", "/api/effects", Access::From(Viewer)),
    ("GET", "/api/effects/{id}", Access::From(Viewer)),
    ("GET", "/api/meter-values", Access::From(Viewer)),
    ("GET", "/api/energy", Access::From(Viewer)),
    ("GET", "/api/read-models", Access::From(Viewer)),
    ("GET", "/api/read-models/{name}/parked", Access::From(Viewer)),
    ("GET", "/api/processes", Access::From(Viewer)),
    ("GET", "/api/processes/{name}/parked", Access::From(Viewer)),
    ("GET", "/api/servers", Access::From(Viewer)),
    ("GET", "/api/tags/{id_tag}", Access::From(Viewer)),
    ("GET", "/metrics", Access::From(Viewer)),
    // The day's work.
    ("POST", "/api/stations/{id}/remote-start", Access::From(Operator)),
    ("POST", "/api/stations/{id}/remote-stop", Access::From(Operator)),
    ("POST", "/api/stations/{id}/unlock", Access::From(Operator)),
    ("POST", "/api/stations/{id}/reserve", Access::From(Operator)),
    ("POST", "/api/stations/{id}/cancel-reservation", Access::From(Operator)),
    ("POST", "/api/stations/{id}/remote-start-transaction", Access::From(Operator)),
    ("POST", "/api/stations/{id}/remote-stop-transaction", Access::From(Operator)),
    ("POST", "/api/stations/{id}/unlock-connector", Access::From(Operator)),
    ("POST", "/api/stations/{id}/reserve-now", Access::From(Operator)),
    ("POST", "/api/stations/{id}/change-availability", Access::From(Operator)),
    ("POST", "/api/stations/{id}/clear-cache", Access::From(Operator)),
    ("POST", "/api/stations/{id}/clear-charging-profile", Access::From(Operator)),
    ("POST", "/api/stations/{id}/data-transfer", Access::From(Operator)),
    ("POST", "/api/stations/{id}/extended-trigger-message", Access::From(Operator)),
    ("POST", "/api/stations/{id}/get-composite-schedule", Access::From(Operator)),
    ("POST", "/api/stations/{id}/get-configuration", Access::From(Operator)),
    ("POST", "/api/stations/{id}/get-diagnostics", Access::From(Operator)),
    ("POST", "/api/stations/{id}/get-installed-certificate-ids", Access::From(Operator)),
    ("POST", "/api/stations/{id}/get-local-list-version", Access::From(Operator)),
    ("POST", "/api/stations/{id}/get-log", Access::From(Operator)),
    ("POST", "/api/stations/{id}/reset", Access::From(Operator)),
    ("POST", "/api/stations/{id}/send-local-list", Access::From(Operator)),
    ("POST", "/api/stations/{id}/set-charging-profile", Access::From(Operator)),
    ("POST", "/api/stations/{id}/trigger-message", Access::From(Operator)),
    ("POST", "/api/transactions/{id}/correct-energy", Access::From(Operator)),
    ("POST", "/api/transactions/{id}/close", Access::From(Operator)),
    ("POST", "/api/effects/{id}/resolve", Access::From(Operator)),
    ("PUT", "/api/tags/{id_tag}", Access::From(Operator)),
    ("DELETE", "/api/tags/{id_tag}", Access::From(Operator)),
    ("POST", "/api/read-models/{name}/retry", Access::From(Operator)),
    ("POST", "/api/processes/{name}/retry", Access::From(Operator)),
    // What a station is, and whom it trusts.
    ("POST", "/api/stations/{id}/certificate-signed", Access::From(Admin)),
    ("POST", "/api/stations/{id}/change-configuration", Access::From(Admin)),
    ("POST", "/api/stations/{id}/delete-certificate", Access::From(Admin)),
    ("POST", "/api/stations/{id}/install-certificate", Access::From(Admin)),
    ("POST", "/api/stations/{id}/signed-update-firmware", Access::From(Admin)),
    ("POST", "/api/stations/{id}/update-firmware", Access::From(Admin)),
    // What loses something for good, what stations there are, and who may call.
    ("POST", "/api/read-models/{name}/skip", Access::From(Admin)),
    ("POST", "/api/processes/{name}/skip", Access::From(Admin)),
    ("PUT", "/api/stations/{id}", Access::From(Admin)),
    ("POST", "/api/stations/{id}/key", Access::From(Admin)),
    ("POST", "/api/stations/{id}/change-key", Access::From(Admin)),
    ("PUT", "/api/stations/{id}/security-profile", Access::From(Admin)),
    ("GET", "/api/users", Access::From(Admin)),
    ("POST", "/api/users", Access::From(Admin)),
    ("PATCH", "/api/users/{id}", Access::From(Admin)),
    ("DELETE", "/api/users/{id}", Access::From(Admin)),
    ("GET", "/api/tokens", Access::From(Admin)),
    ("POST", "/api/tokens", Access::From(Admin)),
    ("DELETE", "/api/tokens/{id}", Access::From(Admin)),
    ("GET", "/api/audit", Access::From(Admin)),
];

/// Returns the callers that a route admits. A method that the path does not take is answered as
/// such to whoever may look.
pub(super) fn access(method: &Method, path: Option<&str>) -> Access {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    let mut of_path = ACCESS.iter().filter(|(_, known, _)| Some(*known) == path).peekable();
    if of_path.peek().is_none() {
        return Access::From(Admin);
    }
    let found = of_path.find(|(known, ..)| *known == method);
    found.map_or(Access::From(Viewer), |(.., access)| *access)
}

impl Access {
    /// Checks that callers of a role are admitted; the error is the refusal.
    pub(super) fn check(self, role: AccessRole) -> Result<(), Problem> {
        match self {
            Self::From(least) if role < least => Err(Problem::forbidden(
                "role-too-weak",
                format!("this is for the role {least}, and yours is {role}; ask an admin"),
            )
            .with("needs", least.name())
            .with("has", role.name())),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ocpp::v16::ACTIONS;

    /// The files that route requests.
    const ROUTERS: [&str; 3] =
        [include_str!("../api/mod.rs"), include_str!("../web/mod.rs"), include_str!("../start.rs")];

    /// Returns the routes of a source: methods and path of each `.route(…)`.
    fn routes(source: &str) -> Vec<(String, String)> {
        let mut found = Vec::new();
        for call in source.split(".route(").skip(1) {
            let mut depth = 1;
            let end = call.find(|c| {
                depth += match c {
                    '(' => 1,
                    ')' => -1,
                    _ => 0,
                };
                depth == 0
            });
            let call = &call[..end.unwrap()];
            // The paths of actions are made of their table.
            let Some(path) = call.split('"').nth(1) else { continue };
            for method in ["get", "post", "put", "patch", "delete"] {
                let words = [format!(" {method}("), format!(".{method}(")];
                let text = call.replace('\n', " ");
                if words.iter().any(|word| text.contains(word)) {
                    found.push((method.to_uppercase(), path.to_owned()));
                }
            }
        }
        found
    }

    #[test]
    fn each_route_says_who_may_call_it_and_none_is_said_of_that_is_not_there() {
        let mut routed: Vec<_> = ROUTERS.into_iter().flat_map(routes).collect();
        let of_action = |action: &str| format!("/api/stations/{{id}}/{action}");
        routed.extend(ACTIONS.iter().map(|row| ("POST".to_owned(), of_action(row.route))));
        assert!(routed.len() > 30, "{routed:?}");
        for (method, path) in &routed {
            let is_said = ACCESS.iter().any(|(m, p, _)| m == method && p == path);
            assert!(is_said, "{method} {path} is missing in ACCESS of http/access.rs");
        }
        for (method, path, _) in ACCESS {
            let is_routed = routed.iter().any(|(m, p)| m == method && p == path);
            assert!(is_routed, "{method} {path} is no route");
        }
    }

    #[test]
    fn writes_are_for_nobody_who_may_only_look() {
        let own = ["/login", "/api/login", "/api/logout", "/api/users/{id}/password"];
        for (method, path, access) in ACCESS {
            let may = access.check(Viewer).is_ok();
            assert!(*method == "GET" || own.contains(path) || !may, "{method} {path}");
        }
        assert_eq!(access(&Method::GET, Some("/api/new")), Access::From(Admin));
        assert_eq!(access(&Method::GET, None), Access::From(Admin));
        assert_eq!(access(&Method::HEAD, Some("/live")), Access::From(Viewer));
        assert_eq!(access(&Method::DELETE, Some("/api/stations")), Access::From(Viewer));
    }
}
