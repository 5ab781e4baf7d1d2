//! Operations of whole stores: `dump` and back, `signed` heads, and what statistics count.

mod dump;
mod signed;
