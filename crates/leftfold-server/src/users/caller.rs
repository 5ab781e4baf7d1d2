//! The caller of a call, and what it may do.

use std::fmt;
use std::sync::Arc;

use tonic::{Request, Status};

use super::rights::{Denied, UserRights, Wish};
use super::{Credential, Users};

/// The caller of a call. Cheap to clone.
///
/// The door of the server (`services/callers.rs`) puts it into the extensions of each request, and
/// every protocol asks it before it touches a store:
///
/// ```ignore
/// let caller = Caller::of(&request)?;
/// caller.may("default", Wish::Append(&append))?;      // once for each append
/// caller.may("default", Wish::Query(&query))?;        // once for each read or subscription
/// caller.may("default", Wish::Role(UserRole::Admin))?; // for what is about no events
/// ```
///
/// `?` makes the [`Denied`] a status of gRPC. A call that goes on asks again for each append; when
/// the user is removed, or has other rights, its open calls are ended by the door.
#[derive(Clone)]
pub(crate) struct Caller(Arc<CallerParts>);

struct CallerParts {
    name: Arc<str>,
    known: KnownAs,
}

/// Reason why a caller may do anything.
enum KnownAs {
    /// Nobody has to say who they are, and everybody may do everything.
    Anybody,
    /// Nobody: may ask for the health of the server.
    Stranger,
    User {
        users: Users,
        credential: Credential,
        rights: Option<UserRights>,
    },
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Caller").field(&self.0.name).finish()
    }
}

impl Caller {
    pub(crate) fn anybody() -> Self {
        Self(Arc::new(CallerParts { name: "".into(), known: KnownAs::Anybody }))
    }

    pub(crate) fn stranger() -> Self {
        Self(Arc::new(CallerParts { name: "".into(), known: KnownAs::Stranger }))
    }

    pub(super) fn user(users: Users, name: String, credential: Credential) -> Self {
        let rights = users.now(&name).map(|user| user.rights.clone());
        let known = KnownAs::User { users, credential, rights };
        Self(Arc::new(CallerParts { name: name.into(), known }))
    }

    /// Returns the caller of a request.
    pub(crate) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let known = request.extensions().get::<Self>().cloned();
        known.ok_or_else(|| Status::unauthenticated("nobody is known to call"))
    }

    /// Returns the name of the user; empty if nobody has to say who they are.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// Tells whether the caller may do something with a store, by the rights that the user has now.
    pub(crate) fn may(&self, store: &str, wish: Wish<'_>) -> Result<(), Denied> {
        match &self.0.known {
            KnownAs::Anybody => Ok(()),
            KnownAs::Stranger => Err(Denied::NoStore { store: store.to_owned() }),
            KnownAs::User { users, credential, .. } => {
                let user = users.now(&self.0.name).filter(|user| user.has(credential));
                user.ok_or(Denied::Removed)?.rights.allow(store, wish)
            }
        }
    }

    /// Waits until the user is not let in any more, or has other rights than when the call began;
    /// `None` for callers of whom that is never so.
    pub(crate) fn changed(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let parts = Arc::clone(&self.0);
        let KnownAs::User { users, .. } = &parts.known else { return None };
        let mut table = users.0.table.subscribe();
        Some(async move {
            while !parts.has_changed() {
                if table.changed().await.is_err() {
                    return std::future::pending().await;
                }
            }
        })
    }
}

impl CallerParts {
    fn has_changed(&self) -> bool {
        let KnownAs::User { users, credential, rights } = &self.known else { return false };
        let user = users.now(&self.name).filter(|user| user.has(credential));
        user.is_none_or(|user| Some(&user.rights) != rights.as_ref())
    }
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        let text = denied.to_string();
        match denied {
            Denied::NoStore { .. } => Self::not_found(text),
            Denied::Role { .. } | Denied::Events { .. } => Self::permission_denied(text),
            Denied::Removed => Self::unauthenticated(text),
        }
    }
}
