//! Cases of real exporters that concern the decoder's state.
