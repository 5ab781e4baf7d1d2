//! Leftfold: state is a left fold of events.
