//! Faithful JSON: what is written of a user's value is what is read again, or it is refused before
//! anything is written.
//!
//! serde tells of a value more than JSON can say: infinities, what is in a Some, which of two
//! untagged variants it is. So a value that was written is read back at once, and what serde tells
//! of the two must be the same ([`Mark`]), but for the order of what is in sets ([`order`]). What
//! serde itself is not told cannot be compared: fields with `#[serde(skip)]`, two untagged variants
//! of the same shape, a flattened Option whose members may all be absent.
//!
//! `encoder` writes a value into its `output` and takes down what serde was told of it, with the
//! keys of maps (`key`) and all that is refused at once (`refuse`), as a `mark`; `order` allows for
//! sets. If two marks differ, `trace` finds the place, and `loss` says what would be lost there.
//! `layout`, `standin` and `text` carry JSON unchanged through code that works on values, and
//! `verbatim` knows how serde_json itself does; `sealed` finds personal data in it.

mod encoder;
mod key;
mod layout;
mod loss;
mod mark;
mod order;
mod output;
mod refuse;
mod sealed;
mod standin;
mod text;
mod trace;
mod verbatim;

use std::mem::discriminant;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use encoder::{Encoder, Members};
use loss::path;
pub(crate) use loss::{EncodeError, JsonReadError, Loss, Unfaithful};
pub(crate) use mark::Mark;
pub(crate) use order::SerdeFunctions;
pub(crate) use output::Output;
pub(crate) use refuse::refuse;
pub(crate) use sealed::keys_in;
#[cfg(feature = "personal")]
pub(crate) use sealed::{KEY_DIGITS, SEALED};
pub(crate) use standin::through;
pub(crate) use text::{depth, is_same_text};
use trace::{Doubt, ValueDifference};

use crate::panic::caught;

/// Writes the JSON of a value that is read as it was written.
pub(crate) fn encode<T: Serialize + DeserializeOwned>(value: &T) -> Result<Vec<u8>, Unfaithful> {
    let (json, mark) = write(value)?;
    let back = match decode::<T>(&json) {
        Ok(back) if tell(&back, &mut Output::marking()).is_ok_and(|back| back == mark) => back,
        read => {
            read_faithfully(value, &json, read, &SerdeFunctions { tell: &tell, read: &decode })?
        }
    };
    // Of an enum it can be seen which variant it is, also where serde is told the same of two.
    if discriminant(&back) == discriminant(value) {
        Ok(json)
    } else {
        Err(Unfaithful::of::<T>(Loss::OtherVariant))
    }
}

/// Reads a value from its JSON.
pub(crate) fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, JsonReadError> {
    reading(|| serde_json::from_slice(json))
}

/// Runs a type's own code that reads: a panic of it is an error of the value.
#[inline]
pub(crate) fn reading<T>(read: impl FnOnce() -> serde_json::Result<T>) -> Result<T, JsonReadError> {
    Ok(caught(read).map_err(JsonReadError::Panicked)??)
}

/// Runs a type's own code that writes: a panic of it is an error of the value.
#[inline]
pub(crate) fn writing<M, E: From<EncodeError>>(
    write: impl FnOnce() -> Result<M, E>,
) -> Result<M, E> {
    let panics = |detail| EncodeError::new(Loss::Panics { code: "Serialize", detail });
    caught(write).map_err(panics)?
}

/// Writes the JSON of a value, which is still to be read back, and its mark.
pub(crate) fn write<T: Serialize>(value: &T) -> Result<(Vec<u8>, Mark), Unfaithful> {
    let mut output = Output::writing();
    match tell(value, &mut output) {
        Ok(mark) => Ok((output.into_json(), mark)),
        Err(stop) => Err(stop.of::<T>()),
    }
}

/// Tells whether two values of a type are the same; the order within sets and maps does not count.
pub(crate) fn is_same<T: Serialize + DeserializeOwned>(one: &T, other: &T) -> bool {
    is_same_to(one, other, &SerdeFunctions { tell: &tell, read: &decode })
}

fn is_same_to<T>(one: &T, other: &T, code: &SerdeFunctions<'_, T>) -> bool {
    let strict = code.mark(one, Output::marking());
    let is_strictly = strict == code.mark(other, Output::marking());
    strict.is_some()
        && (is_strictly
            || is_same_loosely(one, other, code) && code.lost_order(one, other).is_none())
}

/// Tells whether two values differ by orders at most.
fn is_same_loosely<T>(one: &T, other: &T, code: &SerdeFunctions<'_, T>) -> bool {
    let [one, other] = [one, other].map(|value| code.mark(value, Output::marking_loosely()));
    one.is_some() && one == other
}

/// Tells whether a value that was read from JSON is written as the same JSON again. JSON of another
/// shape may be read by accident, a renamed field with a default being empty.
pub(crate) fn is_written_so<T: Serialize + DeserializeOwned>(value: &T, json: &[u8]) -> bool {
    let Ok((again, _)) = write(value) else { return false };
    let is_so = |read: T| text::is_same_loosely(json, &again) && is_same(value, &read);
    is_same_text(json, &again) || decode(&again).is_ok_and(is_so)
}

fn tell<T: Serialize>(value: &T, output: &mut Output) -> Result<Mark, EncodeError> {
    writing(|| value.serialize(Encoder::new(output)))
}

/// The value that was read, if it is the one that was written after all.
#[cold]
pub(crate) fn read_faithfully<T>(
    value: &T,
    json: &[u8],
    read: Result<T, JsonReadError>,
    code: &SerdeFunctions<'_, T>,
) -> Result<T, Unfaithful> {
    match read {
        Ok(back) if is_same_loosely(value, &back, code) => {
            code.lost_order(value, &back).map_or(Ok(back), Err)
        }
        read => Err(lost_of(value, json, read, code)),
    }
}

fn lost_of<T>(
    value: &T,
    json: &[u8],
    read: Result<T, JsonReadError>,
    code: &SerdeFunctions<'_, T>,
) -> Unfaithful {
    let traced = |value: &T| {
        let mut output = Output::tracing();
        (code.tell)(value, &mut output).ok()?;
        output.into_trace()
    };
    let name = std::any::type_name::<T>();
    let here = Unfaithful::of::<T>;
    let there = |at: &ValueDifference<'_>, loss| Unfaithful {
        name,
        path: path(at.steps.iter().copied()),
        loss,
    };
    let read = match read {
        Err(JsonReadError::Panicked(detail)) => {
            return here(Loss::Panics { code: "Deserialize", detail });
        }
        Err(JsonReadError::Json(error)) => Err(error),
        Ok(back) => Ok(back),
    };
    let Some(was) = traced(value) else {
        return here(Loss::Unwritable {
            detail: "it was written once, and cannot be again".to_owned(),
        });
    };
    let error = match read {
        Ok(back) => {
            let Some(is) = traced(&back) else {
                return here(Loss::Changed {
                    from: "it".to_owned(),
                    to: "what cannot be written".to_owned(),
                });
            };
            let at = was.difference(&is);
            let number = at.from.to_owned();
            return match at.doubt {
                Some(Doubt::NotFinite) => there(&at, Loss::NotFinite { number }),
                _ => there(&at, Loss::Changed { from: number, to: at.to.to_owned() }),
            };
        }
        Err(error) => error,
    };
    let detail = error.to_string();
    if let Some(at) = was.first(Doubt::NotFinite) {
        return there(&at, Loss::NotFinite { number: at.from.to_owned() });
    }
    if let Some(at) = was.first(Doubt::Wide).filter(|_| is_of_wide_numbers(&detail)) {
        return there(&at, Loss::TooWide { number: at.from.to_owned() });
    }
    let steps = text::steps_to(json, error.column().saturating_sub(1));
    Unfaithful { name, path: path(&steps), loss: Loss::Unreadable { detail } }
}

fn is_of_wide_numbers(detail: &str) -> bool {
    ["128", "floating point", "integer"].iter().any(|part| detail.contains(part))
}
