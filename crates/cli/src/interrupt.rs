//! Ctrl-C, and being told to terminate: the first one asks, the second one insists.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;

use crate::failure::{Failure, Result};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Whether the first one ends the process.
static AT_ONCE: AtomicBool = AtomicBool::new(false);

/// From here on the first Ctrl-C is only noted, for [`requested`] to be asked between tokens; the second one ends the
/// process.
pub(crate) fn install() {
    // If the system refuses, Ctrl-C ends the process, as it does everywhere.
    let _ = ctrlc::set_handler(|| {
        if AT_ONCE.load(Ordering::SeqCst) || REQUESTED.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
    });
}

/// Until this is dropped Ctrl-C ends the process at once: while it waits for somebody, and has nothing to tidy up.
#[must_use]
pub(crate) struct AtOnce(());

impl AtOnce {
    /// From here on.
    pub(crate) fn new() -> AtOnce {
        install();
        AT_ONCE.store(true, Ordering::SeqCst);
        AtOnce(())
    }
}

impl Drop for AtOnce {
    fn drop(&mut self) {
        AT_ONCE.store(false, Ordering::SeqCst);
    }
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

/// Goes on with a future until it is done or Ctrl-C is pressed: it is dropped then, at the next place where it gives way.
pub(crate) async fn unless<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|cx| if requested() { Poll::Ready(None) } else { future.as_mut().poll(cx).map(Some) }).await
}
