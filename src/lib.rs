//! NetFlow v1, v5, v7, v9 and IPFIX, decoded into columns.
#![deny(unsafe_code)]

pub mod columns;
pub mod decode;
pub mod elements;
pub mod error;
pub mod plan;
pub mod rows;
pub mod template;
pub mod value;
pub mod wire;

#[cfg(feature = "collect")]
pub mod collect;
#[cfg(feature = "collect")]
pub mod net;
#[cfg(feature = "collect")]
pub mod sink;
#[cfg(feature = "collect")]
pub mod source;
