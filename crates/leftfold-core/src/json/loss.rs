//! Losses of a value in JSON: what would be lost, where in the value, and what can be done.

use std::fmt;

/// A value that would not be read as it was written. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unfaithful {
    /// The Rust type.
    pub(crate) name: &'static str,
    /// The way to the place in it: `readings[3].kwh`; empty for the value itself.
    pub(crate) path: String,
    pub(crate) loss: Loss,
}

/// Loss of a value that is written as JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// JSON has no infinity and no NaN.
    NotFinite { number: String },
    /// Objects and arrays within each other, more than can be read.
    TooDeep { depth_max: u32 },
    /// A key that is neither text nor a number.
    NoKey,
    /// A key that an object has twice.
    KeyTwice { key: String },
    /// A number beyond 64 bits, in a type that cannot read it.
    TooWide { number: String },
    /// The type's own code panics.
    Panics { code: &'static str, detail: String },
    /// The type's own code cannot write it.
    Unwritable { detail: String },
    /// It cannot be read.
    Unreadable { detail: String },
    /// It would be read as another variant of the same shape.
    OtherVariant,
    /// It would be read as something else.
    Changed { from: String, to: String },
}

impl fmt::Display for Unfaithful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        self.loss.fmt(f)
    }
}

impl Unfaithful {
    /// A loss of the whole value.
    pub(super) fn of<T>(loss: Loss) -> Self {
        Self { name: std::any::type_name::<T>(), path: String::new(), loss }
    }

    /// The same with the type's name, for errors that have no place of their own for it.
    pub(crate) fn with_name(&self) -> String {
        format!("{}: {self}", self.name)
    }
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFinite { number } => {
                write!(f, "{number} is not a number in JSON; refuse it in the domain, or store it as an enum or a text")
            }
            Self::TooDeep { depth_max } => {
                write!(f, "more than {depth_max} arrays and objects within each other; store a flatter shape, or a text")
            }
            Self::NoKey => f.write_str("the key of a map is neither text nor a number; store a list of pairs"),
            Self::KeyTwice { key } => {
                write!(f, "an object would have the key {key:?} twice; give fields and flattened members keys of their own")
            }
            Self::TooWide { number } => write!(
                f,
                "{number} has 128 bits, which cannot be read within #[serde(tag)], #[serde(untagged)] or #[serde(flatten)]; \
                 store it as a text, or without these"
            ),
            Self::Panics { code, detail } => write!(f, "its {code} panics, fix it and try again: {detail}"),
            Self::Unwritable { detail } => f.write_str(detail),
            Self::Unreadable { detail } => write!(f, "it could not be read again: {detail}; {}", remedy(detail)),
            Self::OtherVariant => {
                f.write_str("it would be read as another of its untagged variants, which has the same shape; give the enum a tag")
            }
            Self::Changed { from, to } => write!(
                f,
                "{from} would be read as {to}; let Serialize and Deserialize agree: no Some that is written as null, no \
                 untagged variant that another one fits, no default for what was left out being another value"
            ),
        }
    }
}

/// Error of JSON that is not read as a type.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JsonReadError {
    /// It has another shape.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// The type's own code panics.
    #[error("its Deserialize panics, fix it and try again: {0}")]
    Panicked(String),
}

fn remedy(detail: &str) -> &'static str {
    if detail.contains("missing field") {
        "give a field that may be left out #[serde(default)]"
    } else if detail.contains("invalid type: map, expected f") {
        "with serde_json's feature arbitrary_precision no float can be read within #[serde(tag)], #[serde(untagged)] or \
         #[serde(flatten)]; build without it, or store such floats elsewhere"
    } else if detail.contains("invalid type: string") {
        "keys that are numbers cannot be read within #[serde(tag)], #[serde(untagged)] or #[serde(flatten)]"
    } else {
        "let Deserialize read what Serialize writes"
    }
}

/// A step of the way to a place within a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PathStep {
    Name(String),
    Index(usize),
}

/// Error of a value that cannot be written, and the way to it, the last step first.
#[derive(Debug)]
pub(crate) struct EncodeError(Box<(Loss, Vec<PathStep>)>);

impl EncodeError {
    pub(super) fn new(loss: Loss) -> Self {
        Self(Box::new((loss, Vec::new())))
    }

    /// The way to the place in a value of a type.
    pub(crate) fn of<T>(self) -> Unfaithful {
        let (loss, steps) = *self.0;
        Unfaithful { name: std::any::type_name::<T>(), path: path(steps.iter().rev()), loss }
    }

    /// The same, as of a greater value with this one under a name.
    pub(crate) fn within(self, name: &str) -> Self {
        self.at(PathStep::Name(name.to_owned()))
    }

    #[cold]
    pub(super) fn at(mut self, step: PathStep) -> Self {
        self.0.1.push(step);
        self
    }
}

impl std::fmt::Display for EncodeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.0.fmt(f)
    }
}

impl std::error::Error for EncodeError {}

impl serde::ser::Error for EncodeError {
    fn custom<T: std::fmt::Display>(detail: T) -> Self {
        Self::new(Loss::Unwritable { detail: detail.to_string() })
    }
}

/// The way as one reads it.
pub(super) fn path<'s>(steps: impl IntoIterator<Item = &'s PathStep>) -> String {
    let mut path = String::new();
    for step in steps {
        match step {
            PathStep::Index(index) => path.push_str(&format!("[{index}]")),
            PathStep::Name(name) if path.is_empty() => path.push_str(name),
            PathStep::Name(name) => path.extend([".", name]),
        }
    }
    shortened(path)
}

/// Characters at either end of a long way that are shown.
const ENDS_CHARS: usize = 60;

fn shortened(path: String) -> String {
    let start = path.char_indices().nth(ENDS_CHARS).map_or(path.len(), |(at, _)| at);
    let end = path.char_indices().nth_back(ENDS_CHARS).map_or(0, |(at, _)| at);
    if start < end { format!("{} ... {}", &path[..start], &path[end..]) } else { path }
}
