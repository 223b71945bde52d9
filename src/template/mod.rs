//! The `template` layer.
