//! Enumerations of the specification that stay open inwards: a value that nobody foresaw is kept as
//! its text.

/// Match of a text with an enumeration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// The specification's spelling.
    Exact,
    /// The specification's value in other upper and lower case.
    OtherCase,
    /// Not a value of the specification.
    Unknown,
}

/// An enumeration that reads any text.
pub(crate) trait OpenEnum: Sized {
    fn recognize(text: &str) -> (Self, Spelling);
}

/// Defines an enumeration with one variant per value of the specification and `Other` for any other
/// text. It is stored as its text.
macro_rules! open_enum {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$variant_meta:meta])* $variant:ident = $text:literal),+ $(,)?
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash)]
        #[allow(clippy::enum_variant_names, reason = "the values are the specification's")]
        pub(crate) enum $name {
            $($(#[$variant_meta])* #[doc = concat!("`", $text, "`")] $variant,)+
            /// Not a value of the specification; the text as it came.
            Other(String),
        }

        impl $name {
            /// The value as the specification spells it, or the text as it came.
            pub(crate) fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                <Self as $crate::ocpp::open_enum::OpenEnum>::recognize(text).0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                Ok(Self::from(text.as_str()))
            }
        }

        impl $crate::ocpp::open_enum::OpenEnum for $name {
            fn recognize(text: &str) -> (Self, $crate::ocpp::open_enum::Spelling) {
                use $crate::ocpp::open_enum::Spelling;
                match text {
                    $($text => return (Self::$variant, Spelling::Exact),)+
                    _ => {}
                }
                $(if text.trim().eq_ignore_ascii_case($text) {
                    return (Self::$variant, Spelling::OtherCase);
                })+
                (Self::Other(text.to_owned()), Spelling::Unknown)
            }
        }
    };
}

pub(crate) use open_enum;
