//! One small program per system.
