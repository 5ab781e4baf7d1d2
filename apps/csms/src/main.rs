//! The charging station management system.

fn main() {}
