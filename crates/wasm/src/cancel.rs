//! Giving up: a promise of the caller's says when.

use std::pin::{Pin, pin};

use futures::future::{Either, Fuse, FusedFuture, FutureExt, select};
use js_sys::Promise;
use wasm_bindgen_futures::JsFuture;

/// Settles when the caller does not want the result any more. The caller settles it at the end in any case: a promise that
/// never settles would keep memory here.
pub(crate) struct Cancel(Pin<Box<Fuse<JsFuture>>>);

impl Cancel {
    /// Without a promise nothing is given up.
    pub(crate) fn new(promise: Option<Promise>) -> Self {
        let future = promise.map_or_else(Fuse::terminated, |promise| JsFuture::from(promise).fuse());
        Self(Box::pin(future))
    }

    /// The future's value, or `None` if it was given up first; it is dropped then.
    pub(crate) async fn or<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        if self.0.is_terminated() {
            return Some(future.await);
        }
        match select(pin!(future), &mut self.0).await {
            Either::Left((value, _)) => Some(value),
            Either::Right(_) => None,
        }
    }
}
