//! A value that is beyond its limit, or empty where it must not be.

/// What was handed in cannot be stored as it is; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Too much of it.
    #[error("{what} may have {limit} at most, this has {size}; split it or make it smaller")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much there is: bytes of a text or data, members of a list.
        size: usize,
        /// How much there may be.
        limit: usize,
    },
    /// Nothing where something must be.
    #[error("{what} may not be empty")]
    Empty {
        /// What is empty.
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
        /// The text.
        category: String,
    },
}

impl Invalid {
    /// Refuses a size beyond its limit.
    pub fn if_over(what: &'static str, size: usize, limit: usize) -> Result<(), Self> {
        if size > limit { Err(Self::TooLarge { what, size, limit }) } else { Ok(()) }
    }
}
