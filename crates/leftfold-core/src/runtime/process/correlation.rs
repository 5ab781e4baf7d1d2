//! Correlation: the instances of a process that an event concerns.

/// Instances of a process that an event concerns, and the way in which it does.
///
/// An event that starts an instance which is open already continues it; one that starts an instance
/// which has ended begins it again, on an empty state. An event that continues or ends an instance
/// which is not open does not concern it.
///
/// ```
/// use leftfold_core::runtime::process::Correlation;
///
/// enum Parcel {
///     Sent { depot: String },
///     Moved { from: String, to: String },
///     Weighed,
/// }
///
/// /// One instance for each depot that has the parcel.
/// fn correlate(event: &Parcel) -> Correlation {
///     match event {
///         Parcel::Sent { depot } => Correlation::starts(depot),
///         Parcel::Moved { from, to } => Correlation::ends(from).and_starts(to),
///         Parcel::Weighed => Correlation::ignores(),
///     }
/// }
///
/// let moved = Parcel::Moved { from: "Kiel".to_owned(), to: "Ulm".to_owned() };
/// assert_eq!(correlate(&moved), Correlation::ends("Kiel").and_starts("Ulm"));
/// assert_eq!(correlate(&Parcel::Weighed), Correlation::default());
/// # let sent = Parcel::Sent { depot: "Kiel".to_owned() };
/// # assert_eq!(correlate(&sent), Correlation::starts("Kiel"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Correlation {
    pub(super) concerned: Vec<(String, Concern)>,
}

/// Way in which an event concerns an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Concern {
    Starts,
    Continues,
    Ends,
    /// A timer or a refusal of its own.
    Own,
}

impl Correlation {
    /// None.
    #[must_use]
    pub const fn ignores() -> Self {
        Self { concerned: Vec::new() }
    }

    /// The event starts this instance.
    #[must_use]
    pub fn starts(key: impl Into<String>) -> Self {
        Self::ignores().and_starts(key)
    }

    /// The event concerns this instance, if it is open.
    #[must_use]
    pub fn continues(key: impl Into<String>) -> Self {
        Self::ignores().and_continues(key)
    }

    /// The event is the last one that concerns this instance: it is reacted to, then the instance
    /// has ended.
    #[must_use]
    pub fn ends(key: impl Into<String>) -> Self {
        Self::ignores().and_ends(key)
    }

    /// And it starts this one. At most [`INSTANCES_MAX`](super::INSTANCES_MAX) instances in all,
    /// each once.
    #[must_use]
    pub fn and_starts(self, key: impl Into<String>) -> Self {
        self.and(key, Concern::Starts)
    }

    /// And it concerns this one, if it is open.
    #[must_use]
    pub fn and_continues(self, key: impl Into<String>) -> Self {
        self.and(key, Concern::Continues)
    }

    /// And it is the last one that concerns this one.
    #[must_use]
    pub fn and_ends(self, key: impl Into<String>) -> Self {
        self.and(key, Concern::Ends)
    }

    fn and(mut self, key: impl Into<String>, concern: Concern) -> Self {
        let key = key.into();
        if self.concerned.iter().all(|(known, _)| *known != key) {
            self.concerned.push((key, concern));
        }
        self
    }
}
