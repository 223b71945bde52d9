//! The row view.
