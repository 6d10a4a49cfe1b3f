//! What must hold for any bytes at all. The fuzz targets in `crates/taipan/fuzz` call these functions, and so does an
//! ordinary test, with the same seeds and many mutations of them: so both are compiled and run on every change.

pub mod gguf_header;
pub mod pickle;
pub mod saved_state;
pub mod weight_header;
