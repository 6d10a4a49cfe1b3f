//! `taipan validate --kernels`: every kernel against its CPU twin.

use taipan::Device;

use crate::failure::{Failure, Result};

pub(super) async fn run(_device: &Device, _json: bool) -> Result<()> {
    Err(Failure::Mismatch)
}
