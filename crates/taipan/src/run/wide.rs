//! The twins that take most of the CPU device's time, compiled for the widest vectors of the machine at hand.
//!
//! These are the plain loops of `taipan-reference`, inlined: a compiler that may use wider registers does not reorder
//! their sums, so the results are the same to the bit.

use pulp::{Arch, Simd, WithSimd};
use taipan_reference::{self as reference, Conv, Heads, Ssm};

macro_rules! wide {
    ($(fn $name:ident($($arg:ident: $ty:ty),* $(,)?);)*) => {
        $(
            #[doc = concat!("See [`reference::", stringify!($name), "`].")]
            #[allow(clippy::too_many_arguments, reason = "those of the twin, many or few")]
            pub(super) fn $name<'a>($($arg: $ty),*) {
                struct Op<'a> {
                    $($arg: $ty),*
                }
                impl WithSimd for Op<'_> {
                    type Output = ();

                    #[inline(always)]
                    fn with_simd<S: Simd>(self, _: S) {
                        reference::$name($(self.$arg),*);
                    }
                }
                Arch::new().dispatch(Op { $($arg),* });
            }
        )*
    };
}

wide! {
    fn causal_conv1d(
        src: &'a [f32], c: &'a Conv, weight: &'a [f32], bias: &'a [f32], state: &'a [f32], first: usize, n: usize,
        out: &'a mut [f32],
    );
    fn chunk_state(s: &'a Ssm, q: usize, xbc: &'a [f32], da: &'a [f32], n: usize, states: &'a mut [f32]);
    fn chunk_scan(
        s: &'a Ssm, q: usize, d: &'a [f32], xbc: &'a [f32], da: &'a [f32], cb: &'a [f32], states: &'a [f32], n: usize,
        y: &'a mut [f32],
    );
    fn selective_state_update(
        s: &'a Ssm, p: &'a Heads<'a>, x: &'a [f32], b: &'a [f32], c: &'a [f32], dt_raw: &'a [f32],
        state: &'a mut [f32], y: &'a mut [f32],
    );
}
