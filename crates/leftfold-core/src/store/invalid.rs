//! Error of a value that is beyond its limit, or empty but must not be.

/// Error of a value that cannot be stored as it is; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// The size of a value is beyond its limit.
    #[error("{what} may have {limit} at most, this has {size}; split it or make it smaller")]
    TooLarge {
        /// Name of the limited value, for people.
        what: &'static str,
        /// Size of the value: bytes of a text or data, members of a list.
        size: usize,
        /// Largest size allowed.
        limit: usize,
    },
    /// A value that must not be empty is empty.
    #[error("{what} may not be empty")]
    Empty {
        /// Name of the empty value, for people.
        what: &'static str,
    },
    /// A name that begins with `$`, which only the runtime may write.
    #[error("{name:?} cannot be {what}: names that begin with '$' are the runtime's, use another")]
    Reserved {
        /// Kind of the name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A category is empty, or has a `-`.
    #[error("{category:?} cannot be a category, use a text without '-'")]
    Category {
        /// Text that was given.
        category: String,
    },
}

impl Invalid {
    /// Refuses a size beyond its limit.
    pub fn if_over(what: &'static str, size: usize, limit: usize) -> Result<(), Self> {
        if size > limit { Err(Self::TooLarge { what, size, limit }) } else { Ok(()) }
    }
}
