//! The `elements` layer.
