//! Order: two values that differ in nothing else are the same if what is in another order is a set.
//!
//! serde does not say what is a set, so it is tried out. A set drops an element that stands twice,
//! or comes back in an order that is drawn again with each reading, or brings its elements into an
//! order of its own, whatever the order was that they were written in. A list in which order counts
//! does none of that.

use std::collections::BTreeMap;

use super::loss::{EncodeError, JsonReadError, Loss, Unfaithful, path};
use super::mark::{Mark, ValueKind};
use super::output::Output;
use super::trace::Node;

/// Functions that tell a value to serde, and read it from its JSON.
pub(crate) struct SerdeFunctions<'c, T> {
    pub(crate) tell: &'c dyn Fn(&T, &mut Output) -> Result<Mark, EncodeError>,
    pub(crate) read: &'c dyn Fn(&[u8]) -> Result<T, JsonReadError>,
}

/// Readings of one text by which an order that is drawn at random shows; that of two elements is
/// the same in all of them once in four thousand million times.
const READINGS: u32 = 32;

/// Ordered contents of a value at one of its places.
#[derive(Default)]
struct OrderedContents {
    mark: Option<Mark>,
    elements_max: usize,
}

type Places = BTreeMap<Mark, OrderedContents>;

impl<T> SerdeFunctions<'_, T> {
    pub(super) fn mark(&self, value: &T, mut output: Output) -> Option<Mark> {
        (self.tell)(value, &mut output).ok()
    }

    fn write(&self, value: &T, mut output: Output) -> Option<Vec<u8>> {
        (self.tell)(value, &mut output).ok()?;
        Some(output.into_json())
    }

    fn trace(&self, value: &T) -> Option<Node> {
        let mut output = Output::tracing();
        (self.tell)(value, &mut output).ok()?;
        output.into_trace()
    }

    /// The orders in a value, by their places; that of the whole is one of them.
    fn places(&self, value: &T) -> Option<Places> {
        let whole = self.mark(value, Output::marking())?;
        let trace = self.trace(value)?;
        let mut places = Places::from([(
            WHOLE,
            OrderedContents { mark: Some(whole), ..OrderedContents::default() },
        )]);
        trace.orders(ROOT, &mut Vec::new(), &mut |at, found| {
            let place = places.entry(at).or_default();
            place.mark = Some(place.mark.unwrap_or(ROOT).beside(found.mark));
            place.elements_max = place.elements_max.max(found.elements);
        });
        Some(places)
    }

    fn places_read(&self, json: &[u8]) -> Option<Places> {
        self.places(&(self.read)(json).ok()?)
    }

    /// Returns what is lost if one value becomes another that differs from it by nothing but
    /// orders; `None` if nothing is lost.
    pub(super) fn lost_order(&self, one: &T, other: &T) -> Option<Unfaithful> {
        let unclear = || Some(self.changed(one, other, WHOLE));
        let (Some(was), Some(is), Some(json)) =
            (self.places(one), self.places(other), self.write(one, Output::writing()))
        else {
            return unclear();
        };
        let mut left: Vec<Mark> =
            was.keys().copied().filter(|at| *at != WHOLE && !agree(&was, &is, *at)).collect();
        if left.is_empty() {
            left.push(WHOLE);
        }
        self.leave_out_sets(&mut left, &was, &json);
        if left.is_empty() {
            return None;
        }
        let again = self.write(other, Output::writing());
        let (Some(first), Some(second)) =
            (self.places_read(&json), again.and_then(|json| self.places_read(&json)))
        else {
            return unclear();
        };
        for _ in 0..READINGS {
            let Some(next) = self.places_read(&json) else { return unclear() };
            left.retain(|at| agree(&first, &next, *at));
            if left.is_empty() {
                return None;
            }
        }
        left.into_iter()
            .find(|at| !agree(&first, &second, *at))
            .map(|at| self.changed(one, other, at))
    }

    /// Makes the error of a place whose contents are in another order.
    fn changed(&self, one: &T, other: &T, place: Mark) -> Unfaithful {
        let all = |value: &T| {
            let mut all = Vec::new();
            if let Some(trace) = self.trace(value) {
                trace.orders(ROOT, &mut Vec::new(), &mut |at, found| {
                    if at == place {
                        all.push((
                            found.mark,
                            path(found.steps),
                            found.shown.to_owned(),
                            found.elements,
                        ));
                    }
                });
            }
            all
        };
        let mut pairs = all(one).into_iter().zip(all(other));
        let reordered = || "the same in another order".to_owned();
        let (path, from, to) = match pairs.find(|(from, to)| from.0 != to.0) {
            Some(((_, path, from, 0), (_, _, to, _))) => (path, from, to),
            Some(((_, path, from, _), _)) => (path, from, reordered()),
            None => (String::new(), "it".to_owned(), reordered()),
        };
        Unfaithful { name: std::any::type_name::<T>(), path, loss: Loss::Changed { from, to } }
    }

    /// Leaves out the places where an element that is written twice is read once.
    fn leave_out_sets(&self, left: &mut Vec<Mark>, was: &Places, json: &[u8]) {
        let Ok(value) = (self.read)(json) else { return };
        // The type may not bear what it never wrote.
        let doubled =
            self.write(&value, Output::doubling()).and_then(|json| self.places_read(&json));
        let Some(doubled) = doubled else { return };
        left.retain(|at| match (was.get(at), doubled.get(at)) {
            (Some(was), Some(doubled)) => {
                was.elements_max == 0 || doubled.elements_max != was.elements_max
            }
            _ => true,
        });
    }
}

const ROOT: Mark = Mark::bits(ValueKind::Unit, 0);
const WHOLE: Mark = Mark::bits(ValueKind::Unit, 1);

fn agree(one: &Places, other: &Places, at: Mark) -> bool {
    let mark = |places: &Places| places.get(&at).and_then(|place| place.mark);
    mark(one) == mark(other)
}
