//! Ctrl-C: the first one asks, the second one insists.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::failure::{Failure, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// From here on the first Ctrl-C is only noted, for [`requested`] to be asked between tokens; the second one ends the
/// process.
pub(crate) fn install() {
    // If the system refuses, Ctrl-C ends the process, as it does everywhere.
    let _ = ctrlc::set_handler(|| {
        if REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
}

/// Whether Ctrl-C was pressed.
pub(crate) fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// For the places where stopping means giving up.
///
/// # Errors
/// `Interrupted` if Ctrl-C was pressed.
pub(crate) fn check() -> Result<()> {
    if requested() { Err(Failure::Interrupted) } else { Ok(()) }
}
