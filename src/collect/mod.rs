//! The `collect` layer.
