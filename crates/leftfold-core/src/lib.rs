//! The model and the runtime of Leftfold.
