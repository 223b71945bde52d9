//! Generates the element table.
fn main() {}
