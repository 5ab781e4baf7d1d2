//! The sharing of work between the runtimes on one store, whichever processes they are in.
//!
//! Each runtime is a member, by a lease of its own whose note says which work it can do
//! (`note`). About twice a second it lists the leases that are held, and makes the same `plan` from
//! the list as every other member: who takes what is free, and what goes from one to another so
//! that all have the same number of works. A `member` then does its own part of the plan: it tells
//! its consumers, each of which has a `share`, to take a lease or to hand one over. People know
//! it by its `name`.
//!
//! Nothing depends on the plan for safety, only for evenness: the leases say who works, and the
//! fences hold off whoever did before.

mod member;
mod name;
mod note;
mod plan;
mod share;

pub(super) use member::{Member, TAKES_PART_WITHIN};
pub(super) use name::default_name;
pub(super) use note::members;
pub use note::{MemberStatus, SharedWork};
pub(super) use share::{Membership, WorkAbility, WorkCall, WorkShare};
