//! Upcasters: the stored shape of an old event becomes today's, on read.

use std::collections::BTreeSet;

use serde_json::Value;

use super::error::EventError;
use crate::json;
use crate::panic::caught;
use crate::store::{EventType, Invalid};

/// Steps by which stored shapes of old events become today's. Each step declares its source and its
/// results, so that queries and conditions for the new type find the old one.
///
/// Steps work on [`Value`]s. A whole number beyond 64 bits, which a `Value` does not hold unless
/// serde_json is built with `arbitrary_precision`, may be left alone, moved or dropped, and stays
/// what it is; a step that looks at one is an error.
///
/// ```
/// use leftfold_core::fold::Upcasters;
///
/// let upcasters = Upcasters::none()
///     // version 1 of invoice.Sent had a bare number, version 2 has an amount and a currency
///     .change("invoice.Sent", 1, |mut data| {
///         data["currency"] = "EUR".into();
///         Ok(data)
///     })
///     // one old event was really two
///     .split(("invoice.Created", 1), &[("invoice.Initiated", 1), ("invoice.Issued", 1)], |data| {
///         Ok(vec![("invoice.Initiated", data.clone()), ("invoice.Issued", data)])
///     });
/// ```
#[derive(Clone, Default)]
pub struct Upcasters {
    steps: Vec<UpcastStep>,
}

/// Result of a step for one old event: types that the step declared, each with its data; or the
/// reason why the step refuses it.
pub type Upcast = Result<Vec<(&'static str, Value)>, String>;

#[derive(Clone)]
struct UpcastStep {
    from: (&'static str, u32),
    to: Vec<(&'static str, u32)>,
    cast: UpcastFn,
}

#[derive(Clone, Copy)]
enum UpcastFn {
    Change(fn(Value) -> Result<Value, String>),
    Split(fn(Value) -> Upcast),
}

/// A stored shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredShape {
    pub(super) event_type: EventType,
    pub(super) schema_version: u32,
}

/// More steps than this for one event mean that they lead in a circle.
const STEPS_MAX: usize = 1_000;

impl Upcasters {
    /// No steps: every event is stored as it is today.
    #[must_use]
    pub const fn none() -> Self {
        Self { steps: Vec::new() }
    }

    /// Adds a step for a type whose data changed its shape: from a schema version to the one after
    /// it.
    #[must_use]
    pub fn change(
        mut self,
        event_type: &'static str,
        from: u32,
        cast: fn(Value) -> Result<Value, String>,
    ) -> Self {
        let to = vec![(event_type, from.saturating_add(1))];
        self.steps.push(UpcastStep { from: (event_type, from), to, cast: UpcastFn::Change(cast) });
        self
    }

    /// Adds a step for a type that got another name.
    #[must_use]
    pub fn rename(mut self, from: (&'static str, u32), to: (&'static str, u32)) -> Self {
        self.steps.push(UpcastStep { from, to: vec![to], cast: UpcastFn::Change(Ok) });
        self
    }

    /// Adds a step by which an event becomes any number of others, of the types that are declared
    /// here.
    #[must_use]
    pub fn split(
        mut self,
        from: (&'static str, u32),
        to: &[(&'static str, u32)],
        cast: fn(Value) -> Upcast,
    ) -> Self {
        self.steps.push(UpcastStep { from, to: to.to_vec(), cast: UpcastFn::Split(cast) });
        self
    }

    /// Returns the schema version that events of the type are written with: the highest that any
    /// step leads to, from 1.
    pub(super) fn current_version(&self, event_type: &EventType) -> u32 {
        let reached = self
            .steps
            .iter()
            .flat_map(|step| &step.to)
            .filter(|(to, _)| *to == event_type.as_str());
        reached.map(|(_, version)| *version).max().unwrap_or(1)
    }

    /// Tells whether there is no step at all.
    pub(super) fn is_none(&self) -> bool {
        self.steps.is_empty()
    }

    /// Returns the steps that lead to a type, directly or over other types.
    pub(super) fn leading_to(&self, event_type: &EventType) -> Self {
        let mut reached = BTreeSet::from([event_type.as_str()]);
        loop {
            let before = reached.len();
            let leads = |step: &&UpcastStep| step.to.iter().any(|(to, _)| reached.contains(to));
            let froms: Vec<_> = self.steps.iter().filter(leads).map(|step| step.from.0).collect();
            reached.extend(froms);
            if reached.len() == before {
                let steps = self
                    .steps
                    .iter()
                    .filter(|step| step.to.iter().any(|(to, _)| reached.contains(to)));
                return Self { steps: steps.cloned().collect() };
            }
        }
    }

    /// Tells whether the steps lead from and to the same shapes, in any order. Their effect on the
    /// data cannot be compared.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let shapes = |upcasters: &Self| {
            let shapes = upcasters
                .steps
                .iter()
                .map(|step| (step.from, step.to.iter().copied().collect::<BTreeSet<_>>()));
            shapes.collect::<BTreeSet<_>>()
        };
        shapes(self) == shapes(other)
    }

    /// Tells whether each of the others' steps is one of these.
    pub(super) fn has_all(&self, others: &Self) -> bool {
        others.steps.iter().all(|other| {
            self.steps.iter().any(|step| step.from == other.from && step.to == other.to)
        })
    }

    /// Tells whether a step leads from a shape from which one of the others leads elsewhere.
    pub(super) fn contradicts(&self, others: &Self) -> bool {
        self.steps.iter().any(|step| {
            others.steps.iter().any(|other| other.from == step.from && other.to != step.to)
        })
    }

    /// Returns these steps, with those of others in place of the ones that lead from the same
    /// shape.
    pub(super) fn replaced_by(mut self, others: &Self) -> Self {
        self.steps.retain(|step| !others.steps.iter().any(|other| other.from == step.from));
        self.steps.extend(others.steps.iter().cloned());
        self
    }

    /// Returns the schema versions that steps lead from; empty if the type is no old one.
    pub(super) fn versions_from(&self, event_type: &EventType) -> Vec<u32> {
        let from = self.steps.iter().filter(|step| step.from.0 == event_type.as_str());
        from.map(|step| step.from.1).collect()
    }

    /// Returns the fault of the steps: the shape, and the reason why events of it are not read;
    /// `None` if they have no fault.
    ///
    /// `today` tells today's schema version of a type that is known. A split may make events for
    /// other readers beside, of other namespaces than this one.
    pub(super) fn fault(
        &self,
        namespace: &str,
        today: impl Fn(&str) -> Option<u32>,
    ) -> Option<(&'static str, u32, String)> {
        for (index, step) in self.steps.iter().enumerate() {
            let (event_type, schema_version) = step.from;
            let fault = |what: String| Some((event_type, schema_version, what));
            if self.steps[..index].iter().any(|other| other.from == step.from) {
                return fault("two upcasters lead from it".to_owned());
            }
            if today(event_type) == Some(schema_version) {
                return fault("an upcaster leads from today's shape".to_owned());
            }
            if self.comes_back(step) {
                return fault("upcasters lead in a circle".to_owned());
            }
            let is_known = |to: &(&'static str, u32)| self.leads_on(to) || today(to.0).is_some();
            for to in &step.to {
                let is_beside = matches!(step.cast, UpcastFn::Split(_))
                    && !to.0.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('.'))
                    && step.to.iter().any(is_known);
                match today(to.0) {
                    _ if self.leads_on(to) => {}
                    Some(current) if current == to.1 => {}
                    Some(current) => {
                        let (to, version) = to;
                        return fault(format!(
                            "it becomes {to} version {version}, from which none leads on to today's {current}"
                        ));
                    }
                    None if is_beside => {}
                    None => return fault(format!("it becomes {}, which is no variant", to.0)),
                }
            }
        }
        None
    }

    fn leads_on(&self, from: &(&'static str, u32)) -> bool {
        self.steps.iter().any(|step| step.from == *from)
    }

    /// Tells whether steps lead from this one back to its beginning.
    fn comes_back(&self, first: &UpcastStep) -> bool {
        let (mut seen, mut open) = (BTreeSet::new(), first.to.clone());
        while let Some(at) = open.pop() {
            if at == first.from {
                return true;
            }
            if seen.insert(at) {
                open.extend(
                    self.steps
                        .iter()
                        .filter(|step| step.from == at)
                        .flat_map(|step| step.to.iter().copied()),
                );
            }
        }
        false
    }

    /// The types, and every type from which steps lead to one of them.
    pub(super) fn widen(
        &self,
        mut types: BTreeSet<EventType>,
    ) -> Result<BTreeSet<EventType>, Invalid> {
        loop {
            let before = types.len();
            for step in &self.steps {
                if step.to.iter().any(|(to, _)| types.iter().any(|known| known.as_str() == *to)) {
                    types.insert(EventType::new(step.from.0)?);
                }
            }
            if types.len() == before {
                return Ok(types);
            }
        }
    }

    /// Tells whether a step leads on from this shape.
    pub(super) fn start_at(&self, stored: &StoredShape) -> bool {
        self.step(stored).is_some()
    }

    /// Takes every step that leads on.
    pub(super) fn upcast(
        &self,
        stored: &StoredShape,
        data: &[u8],
        position: u64,
    ) -> Result<Vec<(StoredShape, Vec<u8>)>, EventError> {
        let failed =
            |detail| EventError::Upcast { position, event_type: stored.event_type.clone(), detail };
        json::through(data, |data| self.lead_on(stored.clone(), data, position), failed)
    }

    fn lead_on(
        &self,
        stored: StoredShape,
        data: Value,
        position: u64,
    ) -> Result<Vec<(StoredShape, Value)>, EventError> {
        let failed = |at: &StoredShape, detail: String| EventError::Upcast {
            position,
            event_type: at.event_type.clone(),
            detail,
        };
        let mut open = vec![(stored, data)];
        let mut done = Vec::new();
        let mut steps = 0;
        while let Some((at, data)) = open.pop() {
            let Some(step) = self.step(&at) else {
                done.push((at, data));
                continue;
            };
            steps += 1;
            if steps > STEPS_MAX {
                return Err(failed(&at, "upcasters lead in a circle".to_owned()));
            }
            let results = step.run(data).map_err(|detail| failed(&at, detail))?;
            // The last is taken up first, so that results come out in order.
            open.extend(results.into_iter().rev());
        }
        Ok(done)
    }

    fn step(&self, stored: &StoredShape) -> Option<&UpcastStep> {
        self.steps
            .iter()
            .find(|step| step.from == (stored.event_type.as_str(), stored.schema_version))
    }
}

impl UpcastStep {
    fn run(&self, data: Value) -> Result<Vec<(StoredShape, Value)>, String> {
        let cast = || match self.cast {
            UpcastFn::Change(change) => {
                Ok(self.to.iter().map(|(to, _)| *to).zip([change(data)?]).collect())
            }
            UpcastFn::Split(split) => split(data),
        };
        let results = caught(cast).map_err(|panic| format!("the upcaster panics: {panic}"))??;
        results.into_iter().map(|(to, data)| Ok((self.declared(to)?, data))).collect()
    }

    fn declared(&self, to: &'static str) -> Result<StoredShape, String> {
        let (_, schema_version) = self
            .to
            .iter()
            .find(|(declared, _)| *declared == to)
            .ok_or_else(|| format!("it became {to}, which the step does not declare"))?;
        let event_type = EventType::new(to).map_err(|invalid| invalid.to_string())?;
        Ok(StoredShape { event_type, schema_version: *schema_version })
    }
}

impl std::fmt::Debug for Upcasters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|step| (step.from, &step.to))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(event_type: &'static str, schema_version: u32) -> StoredShape {
        StoredShape { event_type: EventType::new(event_type).unwrap(), schema_version }
    }

    #[test]
    fn steps_are_taken_one_after_another_and_splits_keep_their_order() {
        let upcasters = Upcasters::none()
            .change("a.One", 1, |mut data| {
                data["x"] = 2.into();
                Ok(data)
            })
            .split(("a.One", 2), &[("a.Two", 1), ("a.Three", 3)], |data| {
                Ok(vec![("a.Two", data.clone()), ("a.Three", data)])
            })
            .rename(("a.Two", 1), ("a.Four", 1));
        let done = upcasters.upcast(&at("a.One", 1), br#"{"x":1}"#, 1).unwrap();
        assert_eq!(
            done,
            [(at("a.Four", 1), br#"{"x":2}"#.to_vec()), (at("a.Three", 3), br#"{"x":2}"#.to_vec())]
        );
        let wanted = upcasters.widen([EventType::new("a.Four").unwrap()].into()).unwrap();
        assert_eq!(
            wanted.iter().map(|t| t.as_str()).collect::<Vec<_>>(),
            ["a.Four", "a.One", "a.Two"]
        );
        assert_eq!(upcasters.current_version(&EventType::new("a.Three").unwrap()), 3);
    }

    #[test]
    fn a_circle_of_upcasters_is_an_error() {
        let circle =
            Upcasters::none().rename(("a.One", 1), ("a.Two", 1)).rename(("a.Two", 1), ("a.One", 1));
        assert!(matches!(
            circle.upcast(&at("a.One", 1), b"{}", 9),
            Err(EventError::Upcast { position: 9, .. })
        ));
    }

    #[test]
    fn a_result_that_was_not_declared_is_an_error() {
        let liar = Upcasters::none()
            .split(("a.One", 1), &[("a.Two", 1)], |data| Ok(vec![("a.Three", data)]));
        assert!(matches!(liar.upcast(&at("a.One", 1), b"{}", 9), Err(EventError::Upcast { .. })));
    }
}
