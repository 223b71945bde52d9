//! The `columns` layer.
