//! The program `leftfold`, as a process of its own.

mod serve;
