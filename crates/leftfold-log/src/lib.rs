//! The embedded log of Leftfold.
