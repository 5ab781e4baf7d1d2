//! The program `leftfold`, as a process of its own.

mod copies;
mod help;
mod reading;
mod serve;
mod support;
mod writing;
