//! Names of the keys of a version.

/// The keys of one version of a projection. Rows come after `NAME:vN:`, all else elsewhere.
#[derive(Clone, Debug)]
pub(crate) struct RedisKeys {
    /// Prefix of the keys of rows.
    pub(crate) rows: String,
    /// A hash: for each row, also a removed one, the position of the event that wrote it last.
    pub(crate) guards: String,
    /// A hash of the notes.
    pub(crate) notes: String,
    /// A sorted set of the notes' keys, which a hash has in no order.
    pub(crate) noted: String,
    /// The token of the session that writes.
    pub(crate) owner: String,
    /// For people: `NAME:vN`.
    pub(crate) version: String,
}

impl RedisKeys {
    pub(crate) fn new(name: &str, version: u32) -> Self {
        let of = |what| format!("{name}:{what}:v{version}");
        Self {
            rows: format!("{name}:v{version}:"),
            guards: of("guards"),
            notes: of("notes"),
            noted: of("noted"),
            owner: of("owner"),
            version: format!("{name}:v{version}"),
        }
    }
}

/// The id of the database. No projection is named so.
pub(crate) const HOME: &str = "$leftfold:home";

/// The version that serves.
pub(crate) fn serving(name: &str) -> String {
    format!("{name}:serving")
}

/// A hash: each version that there are rows of, and whether it is being removed.
pub(crate) fn versions(name: &str) -> String {
    format!("{name}:versions")
}
