//! csms from outside: the real binary, real charge points (the PyPI package `ocpp`), the JSON API and a browser.
//!
//! One crate, so that all themes run in parallel. What the tests need besides Rust is set up by `cargo xtask test`.

mod harness;

mod sessions;
