//! Read models in a database.
