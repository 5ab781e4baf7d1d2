//! Error of applying an event, from the user's code or the driver of the target.

use std::error::Error;
use std::fmt;

/// Any error, so that `?` takes those of every driver. It is not an [`Error`] itself, which lets it
/// be made from all.
///
/// ```
/// use std::io;
///
/// use leftfold_core::runtime::projection::ProjectionError;
///
/// fn apply(cents: i64) -> Result<(), ProjectionError> {
///     if cents < 0 {
///         return Err(ProjectionError::message("a negative deposit"));
///     }
///     Err(io::Error::other("the connection is closed"))?
/// }
///
/// let of_driver = apply(5).unwrap_err();
/// assert!(of_driver.downcast_ref::<io::Error>().is_some());
/// assert_eq!(apply(-5).unwrap_err().to_string(), "a negative deposit");
/// ```
pub struct ProjectionError(Box<dyn Error + Send + Sync>);

impl ProjectionError {
    /// An error that is only a text.
    #[must_use]
    pub fn message(text: impl Into<String>) -> Self {
        Self(text.into().into())
    }

    /// Returns the error as a given type, if it is of that type: so a target can tell that its
    /// database is away.
    #[must_use]
    pub fn downcast_ref<E: Error + 'static>(&self) -> Option<&E> {
        self.0.downcast_ref()
    }

    /// Returns the error, its cause, the cause of that, and so on: users' code may have wrapped the
    /// error of a driver.
    pub fn causes(&self) -> impl Iterator<Item = &(dyn Error + 'static)> {
        chain(self.0.as_ref())
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for ProjectionError {
    fn from(error: E) -> Self {
        Self(Box::new(error))
    }
}

impl fmt::Display for ProjectionError {
    /// The error and everything that it says caused it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        with_causes(&*self.0).fmt(f)
    }
}

/// Returns the text of an error with those of its cause, the cause of that, and so on, with colons
/// between them. Causes with which a text ends already are not said again.
///
/// The errors of Leftfold say their causes themselves; those of most drivers do not.
pub fn with_causes(error: &(dyn Error + 'static)) -> impl fmt::Display {
    let mut texts: Vec<String> = chain(error).map(ToString::to_string).collect();
    let mut told = texts.pop().unwrap_or_default();
    // From the innermost cause outwards, since a text may end with its cause alone, or with all.
    let mut cause = told.clone();
    while let Some(text) = texts.pop() {
        let rest = told.strip_prefix(cause.as_str()).unwrap_or_default();
        told = if text.ends_with(&told) {
            text.clone()
        } else if text.ends_with(&cause) {
            format!("{text}{rest}")
        } else {
            format!("{text}: {told}")
        };
        cause = text;
    }
    told
}

/// Returns an error, its cause, the cause of that, and so on.
fn chain<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

impl fmt::Debug for ProjectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    /// Returns what is said of errors, the outermost first.
    fn told(texts: &[&'static str]) -> String {
        let layers = texts
            .iter()
            .rev()
            .fold(None, |source: Option<Box<Layer>>, text| Some(Box::new(Layer { text, source })));
        with_causes(&*layers.unwrap()).to_string()
    }

    #[test]
    fn a_cause_is_left_out_only_when_the_text_before_it_ends_with_it() {
        assert_eq!(told(&["cannot use it", "refused", "closed"]), "cannot use it: refused: closed");
        assert_eq!(
            told(&["cannot use it: refused: closed", "refused: closed", "closed"]),
            "cannot use it: refused: closed"
        );
        assert_eq!(
            told(&["cannot use it: refused: closed", "refused", "closed"]),
            "cannot use it: refused: closed"
        );
        assert_eq!(
            told(&["cannot use it: refused", "refused", "closed"]),
            "cannot use it: refused: closed"
        );
        assert_eq!(
            told(&["the file io.rs cannot be read", "io"]),
            "the file io.rs cannot be read: io"
        );
    }
}
