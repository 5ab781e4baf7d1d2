//! Single durable commands, against cqrs-es with postgres-es on the same server.

use leftfold_core::fold::Aggregate;
use leftfold_core::store::{
    Append, CommandId, CommandRecord, Condition, Digest, Expected, NewEvent, Outcome as Answer,
    Store, StreamName, Version,
};

use super::peer::PeerProgram;
use crate::Outcome;
use crate::commands::Commander;
use crate::rounds::{RepeatedWork, alternating, rate};
use crate::run::BenchRun;
use crate::table::{RatioTarget, Row, RowUnit};
use crate::workload::{self, ACCOUNTS, Account};

const PEER: &str = "cqrs-es";
const EXACT_WRITERS: usize = 16;

/// Commands on aggregates, by tasks with their own accounts.
pub(crate) async fn commands(
    run: &mut BenchRun,
    writers: usize,
    target: RatioTarget,
) -> Outcome<Row> {
    let server = run.postgres()?;
    let peer = PeerProgram::new(server.database())?;
    let store = server.store().await?;
    let accounts = store.aggregate::<Account>();
    let reference = async |span| peer.rate(writers, span).await;
    let candidate = async |span| {
        let writer = |number| Commander::new(&accounts, number, writers);
        rate((0..writers).map(writer).collect(), span).await
    };
    let rounds = alternating(run.settings.rounds, run.settings.span, reference, candidate).await?;
    store.close().await?;
    let name = format!("PostgreSQL: commands, writers: {writers}");
    Ok(Row { name, rounds, unit: RowUnit::PerSecond, reference: PEER, target })
}

/// Appends of one event with an exact version and a command id.
pub(crate) async fn exact(run: &mut BenchRun) -> Outcome<Row> {
    let server = run.postgres()?;
    let peer = PeerProgram::new(server.database())?;
    let store = server.store().await?;
    let reference = async |span| peer.rate(EXACT_WRITERS, span).await;
    let round = std::cell::Cell::new(0);
    let candidate = async |span| {
        round.set(round.get() + 1);
        let writers = (0..EXACT_WRITERS)
            .map(|number| ExactAppender::new(&store, round.get(), number))
            .collect::<Outcome<_>>()?;
        rate(writers, span).await
    };
    let rounds = alternating(run.settings.rounds, run.settings.span, reference, candidate).await?;
    store.close().await?;
    Ok(Row {
        name: format!("PostgreSQL: exact version and command id, writers: {EXACT_WRITERS}"),
        rounds,
        unit: RowUnit::PerSecond,
        reference: PEER,
        target: RatioTarget::None,
    })
}

/// A task with streams of its own, whose versions it knows.
struct ExactAppender {
    store: Store,
    /// Scope of the command ids.
    scope: String,
    own: Vec<(NewEvent, StreamName, Version)>,
    serial: u64,
}

impl ExactAppender {
    fn new(store: &Store, round: u32, number: usize) -> Outcome<Self> {
        let own = (number as u64..ACCOUNTS).step_by(EXACT_WRITERS).map(|index| {
            let stream = StreamName::of(Account::CATEGORY, &format!("{round}-{index}"))?;
            let event = workload::event(index)?.in_stream(stream.clone());
            Outcome::Ok((event, stream, Version::ABSENT))
        });
        let (store, scope) = (store.clone(), format!("{round} {number}"));
        Ok(Self { store, scope, own: own.collect::<Outcome<_>>()?, serial: 0 })
    }
}

impl RepeatedWork for ExactAppender {
    async fn once(&mut self) -> Outcome {
        self.serial += 1;
        let place = self.serial as usize % self.own.len();
        let (event, stream, version) = &mut self.own[place];
        let mut append = Append::of(vec![event.clone()])
            .when(Condition::stream(stream.clone(), Expected::Exact(*version)));
        append.command = Some(CommandRecord {
            id: CommandId::new(&self.scope, &self.serial.to_string()),
            digest: Digest::of(&self.serial.to_le_bytes()),
            answer: b"done".as_slice().into(),
        });
        match self.store.append(append).await? {
            Answer::Appended(_) => *version = version.next(),
            other => return Err(format!("a right version was answered with {other:?}").into()),
        }
        Ok(())
    }
}
