//! The `sink` layer.
