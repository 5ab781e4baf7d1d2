//! The benchmarks by name, in the order in which they run.

/// Something that can be measured. Each gives one row of the table, or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Benchmark {
    Commands1,
    Commands16,
    Commands256,
    Batches,
    Encode,
    ConditionsSmall1,
    ConditionsSmall16,
    Disk,
    Open,
    ReadAll,
    ReadFold,
    ReadStream,
    ProjectionsSqlite,
    ProjectionsMemory,
    ConditionsLarge1,
    ConditionsLarge16,
    Killed,
    Follow,
    PostgresCommands16,
    PostgresCommands256,
    PostgresExact,
    PostgresBatches,
    PostgresDelivery,
    PostgresProjections,
    PostgresReads,
    PostgresConditions,
    PostgresSlope,
    ServeAppends,
    ServeDelivery,
    ServeCost,
    ServeUmaDbAppends,
    ServeUmaDbReads,
}

impl Benchmark {
    /// In the order in which they run: what appends to a large store comes after what reads it.
    pub(crate) const ALL: [Self; 32] = [
        Self::Commands1,
        Self::Commands16,
        Self::Commands256,
        Self::Batches,
        Self::Encode,
        Self::ConditionsSmall1,
        Self::ConditionsSmall16,
        Self::Disk,
        Self::Open,
        Self::ReadAll,
        Self::ReadFold,
        Self::ReadStream,
        Self::ProjectionsSqlite,
        Self::ProjectionsMemory,
        Self::ConditionsLarge1,
        Self::ConditionsLarge16,
        Self::Killed,
        Self::Follow,
        Self::PostgresCommands16,
        Self::PostgresCommands256,
        Self::PostgresExact,
        Self::PostgresBatches,
        Self::PostgresDelivery,
        Self::PostgresProjections,
        Self::PostgresReads,
        Self::PostgresSlope,
        Self::PostgresConditions,
        Self::ServeAppends,
        Self::ServeDelivery,
        Self::ServeCost,
        Self::ServeUmaDbAppends,
        Self::ServeUmaDbReads,
    ];

    /// Tells whether it runs only if it is named: it is about a server.
    pub(crate) fn is_on_request(self) -> bool {
        ["postgres", "serve"].iter().any(|kind| self.name().starts_with(kind))
    }

    pub(crate) const fn name(self) -> &'static str {
        self.described().0
    }

    pub(crate) const fn about(self) -> &'static str {
        self.described().1
    }

    const fn described(self) -> (&'static str, &'static str) {
        match self {
            Self::Commands1 => ("commands-1", "commands on aggregates, 1 writer"),
            Self::Commands16 => ("commands-16", "the same, 16 writers"),
            Self::Commands256 => ("commands-256", "the same, 256 writers"),
            Self::Batches => ("batches", "appends of 100 events"),
            Self::Encode => ("encode", "an event that is read back before it is written"),
            Self::ConditionsSmall1 => {
                ("conditions-small-1", "what a condition costs in a small store, 1 writer")
            }
            Self::ConditionsSmall16 => ("conditions-small-16", "the same, 16 writers"),
            Self::Disk => {
                ("disk", "bytes on disk for each event, and memory while they are appended")
            }
            Self::Open => ("open", "opening the large store after it was closed"),
            Self::ReadAll => ("read-all", "reading every event"),
            Self::ReadFold => ("read-fold", "reading every event, decoded into a fold"),
            Self::ReadStream => ("read-stream", "reading one stream of 1,000 events"),
            Self::ProjectionsSqlite => {
                ("projections-sqlite", "projecting every event into SQLite, one upsert each")
            }
            Self::ProjectionsMemory => {
                ("projections-memory", "projecting every event into a fold in memory")
            }
            Self::ConditionsLarge1 => {
                ("conditions-large-1", "what a condition costs in the large store, 1 writer")
            }
            Self::ConditionsLarge16 => ("conditions-large-16", "the same, 16 writers"),
            Self::Killed => ("killed", "opening the large store after its process was killed"),
            Self::Follow => ("follow", "the time until a follower of the log sees an event"),
            Self::PostgresCommands16
            | Self::PostgresCommands256
            | Self::PostgresExact
            | Self::PostgresBatches
            | Self::PostgresDelivery
            | Self::PostgresProjections
            | Self::PostgresReads
            | Self::PostgresConditions
            | Self::PostgresSlope
            | Self::ServeAppends
            | Self::ServeDelivery
            | Self::ServeCost
            | Self::ServeUmaDbAppends
            | Self::ServeUmaDbReads => self.described_on_request(),
        }
    }

    /// Benchmarks of the store in PostgreSQL, and of a server.
    const fn described_on_request(self) -> (&'static str, &'static str) {
        match self {
            Self::PostgresCommands16 => {
                ("postgres-commands-16", "commands on aggregates in PostgreSQL, 16 writers")
            }
            Self::PostgresCommands256 => ("postgres-commands-256", "the same, 256 writers"),
            Self::PostgresExact => {
                ("postgres-exact", "appends with an exact version and a command id in PostgreSQL")
            }
            Self::PostgresBatches => ("postgres-batches", "appends of 100 events to PostgreSQL"),
            Self::PostgresDelivery => {
                ("postgres-delivery", "the time until another handle sees an event in PostgreSQL")
            }
            Self::PostgresProjections => {
                ("postgres-projections", "projecting events into the database that has them")
            }
            Self::PostgresReads => {
                ("postgres-reads", "reading one stream of 1,000 events from PostgreSQL")
            }
            Self::PostgresConditions => {
                ("postgres-conditions", "what a condition on a tag of every event costs there")
            }
            Self::ServeAppends => {
                ("serve-appends", "appends of one event to a server, 16 connections")
            }
            Self::ServeDelivery => {
                ("serve-delivery", "the time until subscribers of a server see an event")
            }
            Self::ServeCost => ("serve-cost", "the processor time that a server takes for both"),
            Self::ServeUmaDbAppends => {
                ("serve-umadb-appends", "appends of UmaDB's client, against UmaDB")
            }
            Self::ServeUmaDbReads => {
                ("serve-umadb-reads", "reads of UmaDB's client in a large store, against UmaDB")
            }
            _ => ("postgres-slope", "appends and pages in a store of three times the events"),
        }
    }
}
