//! What is sealed of a person, with a key of that person.

/// Name under which names of users are found.
pub(super) const NAME: &str = "user";

/// Returns the subject whose key seals what is personal of a user.
pub(super) fn subject(id: &str) -> String {
    format!("user-{id}")
}
