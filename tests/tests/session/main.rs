//! Sessions: stopping and going on, saving and restoring, forking and interleaving, on the CPU and on a GPU.

mod damaged;
mod dropped;
mod lies;
mod pending;
mod restore;
mod short;
mod stops;
mod text;
mod together;
mod traced;

use taipan::Device;
use taipan_tests::device;
use taipan_tests::pieces::Pieces;
use taipan_tests::tiny::Tiny;

/// The devices whose sessions are tested.
fn devices() -> [(&'static str, Device); 2] {
    [("cpu", Device::cpu()), ("gpu", device::gpu())]
}

/// Both kinds of layer, a window that wraps soon, text with broken characters.
fn talker() -> Tiny {
    Tiny::new("msm").pieces(Pieces::mixed())
}
