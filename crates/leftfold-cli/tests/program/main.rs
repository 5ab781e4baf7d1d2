//! The program `leftfold`, as a process of its own.

mod asking;
mod bucket;
mod config;
mod copies;
mod foreign;
mod foreign_load;
mod groups;
mod help;
mod open_work;
mod operate;
mod otlp;
mod reading;
mod serve;
mod support;
mod writing;
