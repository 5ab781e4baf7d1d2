//! The proof: each answer is replayed at the place in the final log where it was given.

use std::collections::HashMap;

use leftfold_core::store::{
    Answered, Append, AppendError, Appended, CommandId, Condition, Conflict, NewEvent, Outcome,
    Position, RecordedEvent, StreamName, Version,
};

use super::{AppendAnswer, AppendAttempt, AppendHistory, AttemptId, HistoryViolation};

/// Checks a history against all events of its store, the runtime's own included, in order.
pub fn check(history: &AppendHistory, events: &[RecordedEvent]) -> Result<(), HistoryViolation> {
    let attempts = history.attempts();
    let log = FinalLog::new(events)?;
    let successes = successes(&attempts);
    for &(id, attempt, answer, appended) in &successes {
        log.check_landed(id, &attempt.append, answer, appended)?;
        log.check_condition_held(id, attempt, appended)?;
    }
    log.check_claims(history.began_after, &attempts, &successes)?;
    check_real_time(&attempts, &successes)?;
    check_commands(history.began_after, &attempts, &successes)?;
    for (index, attempt) in attempts.iter().enumerate() {
        if let Some(AppendAnswer { outcome: Ok(Outcome::Conflict(conflict)), durable, .. }) =
            &attempt.answer
        {
            log.check_conflict_is_real(AttemptId(index), attempt, *durable, conflict)?;
        }
    }
    Ok(())
}

type Success<'a> = (AttemptId, &'a AppendAttempt, &'a AppendAnswer, &'a Appended);

fn successes(attempts: &[AppendAttempt]) -> Vec<Success<'_>> {
    let mut successes = Vec::new();
    for (index, attempt) in attempts.iter().enumerate() {
        if let Some(answer) = &attempt.answer
            && let Ok(Outcome::Appended(appended)) = &answer.outcome
        {
            successes.push((AttemptId(index), attempt, answer, appended));
        }
    }
    successes
}

/// The last event ordered before the append.
fn landed_after(attempt: &AppendAttempt, appended: &Appended) -> Position {
    if attempt.append.events.is_empty() {
        appended.first
    } else {
        Position(appended.first.0.saturating_sub(1))
    }
}

/// The final log, with what each stream was at every position.
struct FinalLog<'a> {
    events: &'a [RecordedEvent],
    streams: HashMap<&'a StreamName, Vec<Position>>,
}

impl<'a> FinalLog<'a> {
    /// Positions and versions count up by one, and time goes on.
    fn new(events: &'a [RecordedEvent]) -> Result<Self, HistoryViolation> {
        let mut streams: HashMap<&StreamName, Vec<Position>> = HashMap::new();
        for (index, event) in events.iter().enumerate() {
            let at = event.position;
            let gap = |what: &str, expected, found| HistoryViolation::Gap {
                at,
                what: what.to_owned(),
                expected,
                found,
            };
            if at.0 != index as u64 + 1 {
                return Err(gap("position", index as u64 + 1, at.0));
            }
            if let Some(in_stream) = &event.stream {
                let positions = streams.entry(&in_stream.name).or_default();
                positions.push(at);
                if in_stream.version.0 != positions.len() as u64 {
                    return Err(gap(
                        &format!("version in {}", in_stream.name),
                        positions.len() as u64,
                        in_stream.version.0,
                    ));
                }
            }
            if let Some(before) = index.checked_sub(1).map(|before| &events[before]) {
                let same_append_other_time =
                    before.append_continues && before.recorded_at != event.recorded_at;
                if before.recorded_at > event.recorded_at || same_append_other_time {
                    return Err(HistoryViolation::Time { at });
                }
            }
        }
        if let Some(last) = events.last().filter(|last| last.append_continues) {
            let end = last.position.next().0;
            return Err(HistoryViolation::Gap {
                at: last.position,
                what: "a successor at".to_owned(),
                expected: end,
                found: 0,
            });
        }
        Ok(Self { events, streams })
    }

    fn at(&self, position: Position) -> Option<&RecordedEvent> {
        position.0.checked_sub(1).and_then(|index| self.events.get(usize::try_from(index).ok()?))
    }

    fn version(&self, stream: &StreamName, through: Position) -> Version {
        let positions = self.streams.get(stream).map_or(&[][..], Vec::as_slice);
        Version(positions.partition_point(|position| *position <= through) as u64)
    }

    /// Tells whether an append ends at the position, so that a condition can have been judged
    /// there.
    fn is_boundary(&self, position: Position) -> bool {
        self.at(position).is_none_or(|event| !event.append_continues)
    }

    fn stream_conflict(&self, condition: &Condition, through: Position) -> Option<Conflict> {
        condition.streams.iter().find_map(|(stream, expected)| {
            let actual = self.version(stream, through);
            let conflict =
                || Conflict::Stream { stream: stream.clone(), expected: *expected, actual };
            (!expected.holds(actual)).then(conflict)
        })
    }

    fn matching_conflict(&self, condition: &Condition, through: Position) -> Option<Conflict> {
        condition.none_matching.iter().enumerate().find_map(|(clause, none)| {
            let from = usize::try_from(none.after.0).unwrap_or(usize::MAX).min(self.events.len());
            let candidates =
                self.events[from..].iter().take_while(|event| event.position <= through);
            let found = candidates.into_iter().find(|event| none.query.matches(event))?;
            Some(Conflict::Matching { clause, after: none.after, found: found.position })
        })
    }

    /// The events stand in the log as they were appended and answered, together and once.
    fn check_landed(
        &self,
        id: AttemptId,
        append: &Append,
        answer: &AppendAnswer,
        appended: &Appended,
    ) -> Result<(), HistoryViolation> {
        let count = append.events.len();
        if appended.versions.len() != count {
            return Err(HistoryViolation::Differs { attempt: id, at: appended.first });
        }
        for (index, new) in append.events.iter().enumerate() {
            let at = Position(appended.first.0 + index as u64);
            let event = self.at(at).ok_or(HistoryViolation::Lost { attempt: id, at })?;
            let answered = event.version() == appended.versions[index]
                && event.recorded_at == appended.recorded_at;
            if !answered || !is_recorded(new, event) {
                return Err(HistoryViolation::Differs { attempt: id, at });
            }
            if event.append_continues != (index + 1 < count) {
                return Err(HistoryViolation::Split { attempt: id, at });
            }
        }
        let before = Position(appended.first.0.saturating_sub(u64::from(count > 0)));
        if !self.is_boundary(before) {
            return Err(HistoryViolation::Split { attempt: id, at: before });
        }
        if appended.last() > answer.durable {
            return Err(HistoryViolation::NotDurable {
                attempt: id,
                at: appended.last(),
                durable: answer.durable,
            });
        }
        Ok(())
    }

    fn check_condition_held(
        &self,
        id: AttemptId,
        attempt: &AppendAttempt,
        appended: &Appended,
    ) -> Result<(), HistoryViolation> {
        let after = landed_after(attempt, appended);
        let condition = &attempt.append.condition;
        match self
            .stream_conflict(condition, after)
            .or_else(|| self.matching_conflict(condition, after))
        {
            None => Ok(()),
            Some(conflict) => Err(HistoryViolation::FalseSuccess { attempt: id, after, conflict }),
        }
    }

    /// At some place between what was durable before the append began and what was durable when it
    /// was answered, the reported clause is the one that fails.
    fn check_conflict_is_real(
        &self,
        id: AttemptId,
        attempt: &AppendAttempt,
        durable: Position,
        conflict: &Conflict,
    ) -> Result<(), HistoryViolation> {
        let condition = &attempt.append.condition;
        let from = attempt.durable_before;
        let is_real = |through: Position| {
            let expected = match conflict {
                Conflict::Stream { .. } => self.stream_conflict(condition, through),
                Conflict::Matching { .. } => self.matching_conflict(condition, through),
            };
            expected.as_ref() == Some(conflict)
        };
        let mut places =
            (from.0..=durable.0).map(Position).filter(|place| self.is_boundary(*place));
        if places.any(is_real) {
            return Ok(());
        }
        Err(HistoryViolation::FalseConflict {
            attempt: id,
            from,
            to: durable,
            conflict: conflict.clone(),
        })
    }

    /// Every event since the history began belongs to one append: an acknowledged one, or, once,
    /// one whose answer is unknown.
    fn check_claims(
        &self,
        began_after: Position,
        attempts: &[AppendAttempt],
        successes: &[Success<'_>],
    ) -> Result<(), HistoryViolation> {
        let mut owners: HashMap<Position, AttemptId> = HashMap::new();
        for (id, attempt, _, appended) in successes {
            for index in 0..attempt.append.events.len() as u64 {
                let at = Position(appended.first.0 + index);
                if let Some(first) = owners.insert(at, *id) {
                    return Err(HistoryViolation::Twice { first, second: *id, at });
                }
                if at <= began_after {
                    return Err(HistoryViolation::Differs { attempt: *id, at });
                }
            }
        }
        let mut unknown: Vec<&Append> =
            attempts.iter().filter(|a| is_unknown(a)).map(|a| &a.append).collect();
        let mut rest = &self.events
            [usize::try_from(began_after.0).unwrap_or(usize::MAX).min(self.events.len())..];
        while let Some(event) = rest.first() {
            let length = rest.iter().take_while(|event| event.append_continues).count() + 1;
            let (append, after) = rest.split_at(length.min(rest.len()));
            rest = after;
            if owners.contains_key(&event.position) {
                continue;
            }
            let matches = |candidate: &&Append| {
                candidate.events.len() == append.len()
                    && candidate.events.iter().zip(append).all(|(new, e)| is_recorded(new, e))
            };
            let index = unknown
                .iter()
                .position(matches)
                .ok_or(HistoryViolation::Stray { at: event.position })?;
            unknown.swap_remove(index);
        }
        Ok(())
    }
}

/// Tells whether the append may be in the log though it was not acknowledged.
fn is_unknown(attempt: &AppendAttempt) -> bool {
    match &attempt.answer {
        None => true,
        Some(answer) => matches!(answer.outcome, Err(AppendError::Unknown { .. })),
    }
}

fn is_recorded(new: &NewEvent, event: &RecordedEvent) -> bool {
    new.stream.as_ref() == event.stream.as_ref().map(|at| &at.name)
        && new.event_type == event.event_type
        && new.schema_version == event.schema_version
        && new.content_type == event.content_type
        && new.data == event.data
        && new.metadata == event.metadata
        && new.tags == event.tags
        && new.key_ids == event.key_ids
        && new.id.is_none_or(|id| id == event.id)
}

/// Checks that events that were acknowledged, or durable, before an append began are ordered before
/// it.
fn check_real_time(
    attempts: &[AppendAttempt],
    successes: &[Success<'_>],
) -> Result<(), HistoryViolation> {
    let mut acknowledged: Vec<(u64, Position)> =
        successes.iter().map(|(_, _, answer, appended)| (answer.at, appended.last())).collect();
    acknowledged.sort_unstable_by_key(|(at, _)| *at);
    let mut acknowledged = acknowledged.into_iter().peekable();
    let mut durable = Position::START;
    // Attempts stand in the order of their starts; `successes` is a part of them in the same order.
    for (id, attempt, _, appended) in successes {
        debug_assert_eq!(attempts[id.0].started, attempt.started);
        while let Some((_, last)) = acknowledged.next_if(|(at, _)| *at < attempt.started) {
            durable = durable.max(last);
        }
        let after = landed_after(attempt, appended);
        let durable = durable.max(attempt.durable_before);
        if after < durable {
            return Err(HistoryViolation::Early { attempt: *id, after, durable });
        }
    }
    Ok(())
}

/// A command id takes effect once, and is answered the same ever after.
fn check_commands(
    began_after: Position,
    attempts: &[AppendAttempt],
    successes: &[Success<'_>],
) -> Result<(), HistoryViolation> {
    let mut effective: HashMap<CommandId, Success<'_>> = HashMap::new();
    for success in successes {
        let Some(command) = &success.1.append.command else { continue };
        if let Some(first) = effective.insert(command.id, *success) {
            return Err(HistoryViolation::CommandTwice { first: first.0, second: success.0 });
        }
    }
    for (index, attempt) in attempts.iter().enumerate() {
        let Some(AppendAnswer { outcome: Ok(Outcome::Repeated(answered)), durable, .. }) =
            &attempt.answer
        else {
            continue;
        };
        let attempt_id = AttemptId(index);
        let same_request = attempt.append.command.as_ref().is_some_and(|command| {
            command.id == answered.record.id && command.digest == answered.record.digest
        });
        let is_first_answer = match effective.get(&answered.record.id) {
            Some((_, first, _, appended)) => *answered == as_answered(first, appended),
            // It took effect before the history began, or for a caller who never learned of it.
            None => {
                answered.first <= began_after
                    || attempts.iter().any(|a| {
                        is_unknown(a) && a.append.command.as_ref() == Some(&answered.record)
                    })
            }
        };
        if !same_request || !is_first_answer {
            return Err(HistoryViolation::FalseRepeat { attempt: attempt_id });
        }
        let last = Position(answered.first.0 + u64::from(answered.events).saturating_sub(1));
        if last > *durable {
            return Err(HistoryViolation::NotDurable {
                attempt: attempt_id,
                at: last,
                durable: *durable,
            });
        }
    }
    Ok(())
}

fn as_answered(first: &AppendAttempt, appended: &Appended) -> Answered {
    // Only attempts with a command record come here.
    let record = first.append.command.clone().expect("an effective command has a record");
    let events = u32::try_from(appended.versions.len()).unwrap_or(u32::MAX);
    Answered { record, recorded_at: appended.recorded_at, first: appended.first, events }
}
