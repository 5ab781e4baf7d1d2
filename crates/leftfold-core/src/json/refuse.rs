//! The parts of a serializer that take nothing.

/// Writes these methods of a `Serializer`, each by its arguments and the associated type that it
/// would return: an error.
macro_rules! refuse {
    ($error:expr; $($method:ident($($type:ty),*) -> $ok:ident),* $(,)?) => {
        $(fn $method(self, $(_: $type),*) -> Result<Self::$ok, Self::Error> {
            Err($error)
        })*
    };
}

pub(crate) use refuse;
