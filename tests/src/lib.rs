//! What the tests of this package share: devices, golden cases, comparison.

pub mod compare;
pub mod device;
pub mod golden;
