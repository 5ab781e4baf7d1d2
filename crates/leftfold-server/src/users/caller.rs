//! The caller of a call, and what it may do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::{Request, Status};

use super::rights::{Denied, UserRights, Wish};
use super::{Credential, LetIn, User, Users};
use crate::guard::{CallPlace, Guard, RateUse, TooFast};
use crate::metrics::CallRefusal;

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
    User(Box<KnownUser>),
}

struct KnownUser {
    users: Users,
    credential: Credential,
    /// Rights when the call began.
    rights: Option<UserRights>,
    guard: Arc<Guard>,
    uses: Arc<RateUse>,
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

    pub(crate) fn user(users: Users, let_in: LetIn, guard: Arc<Guard>) -> Self {
        let LetIn { name, credential } = let_in;
        let rights = users.now(&name).map(|user| user.rights.clone());
        let uses = guard.use_of(&name);
        let known = KnownAs::User(Box::new(KnownUser { users, credential, rights, guard, uses }));
        Self(Arc::new(CallerParts { name, known }))
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
    /// A user who may not is recorded.
    pub(crate) fn may(&self, store: &str, wish: Wish<'_>) -> Result<(), Denied> {
        let known = match &self.0.known {
            KnownAs::Anybody => return Ok(()),
            KnownAs::Stranger => return Err(Denied::NoStore { store: store.to_owned() }),
            KnownAs::User(known) => known,
        };
        let user = known.now(&self.0.name);
        let judged = user.ok_or(Denied::Removed).and_then(|user| user.rights.allow(store, wish));
        if let Err(denied) = &judged {
            known.guard.counts.refuse_call(CallRefusal::Denied);
            known.guard.refusals.record_user(&self.0.name, store, denied);
        }
        judged
    }

    /// Tells the same, where to may not is no refusal: the caller gets less, and is not recorded.
    pub(crate) fn has(&self, store: &str, wish: Wish<'_>) -> bool {
        match &self.0.known {
            KnownAs::Anybody => true,
            KnownAs::Stranger => false,
            KnownAs::User(known) => {
                known.now(&self.0.name).is_some_and(|user| user.rights.allow(store, wish).is_ok())
            }
        }
    }

    /// Begins a call of the user, which waits for its turn; the place is kept while it is open.
    pub(crate) async fn begin_call(&self) -> Result<Option<CallPlace>, TooFast> {
        let KnownAs::User(known) = &self.0.known else { return Ok(None) };
        let limits = known.now(&self.0.name).map(|user| user.limits).unwrap_or_default();
        let limits = known.guard.limits_of(limits);
        let place = known.uses.open(limits.calls_at_once).ok_or(TooFast)?;
        let turn = known.uses.call(limits.calls_per_second)?;
        if !turn.is_zero() {
            tokio::time::sleep(turn).await;
        }
        Ok(Some(place))
    }

    /// Counts bytes that the user appends, and returns the time until the turn of the next append.
    pub(crate) fn appends(&self, bytes: u64) -> Result<Duration, TooFast> {
        let KnownAs::User(known) = &self.0.known else { return Ok(Duration::ZERO) };
        let limits = known.now(&self.0.name).map(|user| user.limits).unwrap_or_default();
        known.uses.bytes(bytes, known.guard.limits_of(limits).bytes_per_second)
    }

    /// Waits until the user is not let in any more, or has other rights than when the call began;
    /// `None` for callers of whom that is never so.
    pub(crate) fn changed(&self) -> Option<impl Future<Output = ()> + Send + use<>> {
        let parts = Arc::clone(&self.0);
        let KnownAs::User(known) = &parts.known else { return None };
        let mut table = known.users.0.table.subscribe();
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
        let KnownAs::User(known) = &self.known else { return false };
        known.now(&self.name).is_none_or(|user| Some(&user.rights) != known.rights.as_ref())
    }
}

impl KnownUser {
    /// Returns the user as it is now; `None` if what the caller has shown lets nobody in any more.
    fn now(&self, name: &str) -> Option<Arc<User>> {
        self.users.now(name).filter(|user| user.has(&self.credential))
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
