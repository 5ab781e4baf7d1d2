//! The charging station management system: charging stations speak OCPP to it, and each is an event-sourced aggregate
//! on Leftfold.

pub mod dashboard;
pub mod ocpp;
