//! Batches as Arrow record batches, without a copy.
