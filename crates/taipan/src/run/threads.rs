//! The threads of the CPU device: those of rayon's pool, kept awake while there is something to compute.

#[cfg(not(target_arch = "wasm32"))]
use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

/// Multiply-adds that are worth another thread, which is awake by then: some microseconds.
#[cfg(not(target_arch = "wasm32"))]
const PIECE: usize = 1 << 14;

/// Runs `body` on a thread of the pool: from outside, each of its products would wait for a thread to take it up. Until it
/// ends the others look for work without falling asleep, since waking one takes longer than many a product of one token.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn on_a_worker(body: impl FnOnce() + Send) {
    rayon::scope(|scope| {
        let (here, ended) = (rayon::current_thread_index(), Arc::new(AtomicBool::new(false)));
        let until = ended.clone();
        scope.spawn_broadcast(move |_, thread| {
            // This thread takes it up too, where it waits for a piece: that would never end.
            if Some(thread.index()) != here {
                work_until(|| until.load(Ordering::Acquire));
            }
        });
        let _end = OnDrop(|| ended.store(true, Ordering::Release));
        body();
    });
}

/// Does what there is to do in the pool until `done`. Who looks in vain spins at first, for some tens of microseconds, as
/// long as is between two products of a token, and then lets other programs have the core between looks.
#[cfg(not(target_arch = "wasm32"))]
fn work_until(done: impl Fn() -> bool) {
    const SPINS: u32 = 200;
    let mut idle = 0;
    while !done() {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => idle = 0,
            _ if idle < SPINS => {
                idle += 1;
                (0..4).for_each(|_| std::hint::spin_loop());
            }
            _ => std::thread::yield_now(),
        }
    }
}

/// Runs when it goes, by a panic too.
#[cfg(not(target_arch = "wasm32"))]
struct OnDrop<F: Fn()>(F);

#[cfg(not(target_arch = "wasm32"))]
impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        self.0();
    }
}

#[cfg(target_arch = "wasm32")]
pub(super) fn on_a_worker(body: impl FnOnce()) {
    body();
}

/// Runs `body(index, chunk)` over chunks of `out`, on several threads where so many multiply-adds are worth it.
pub(super) fn for_each_chunk<T: Send>(
    out: &mut [T],
    size: usize,
    work: usize,
    body: impl Fn(usize, &mut [T]) + Sync + Send,
) {
    #[cfg(not(target_arch = "wasm32"))]
    {
        let threads = rayon::current_num_threads().min(work / PIECE).min(out.len());
        if threads > 1 {
            return in_pieces(out, size, out.len().div_ceil(size).div_ceil(threads), &body);
        }
    }
    let _ = work;
    out.chunks_mut(size).enumerate().for_each(|(i, chunk)| body(i, chunk));
}

/// The same in pieces of `each` chunks. No piece waits for another, as the halves of rayon's iterators do: a thread that
/// waits looks for work, and could take up above what to stay awake until the end, for which that piece is waited for.
#[cfg(not(target_arch = "wasm32"))]
fn in_pieces<T: Send>(out: &mut [T], size: usize, each: usize, body: &(impl Fn(usize, &mut [T]) + Sync)) {
    let mut pieces = out.chunks_mut(size * each).enumerate();
    let left = AtomicUsize::new(pieces.len());
    let run = |piece: usize, out: &mut [T]| {
        let _done = OnDrop(|| _ = left.fetch_sub(1, Ordering::Release));
        out.chunks_mut(size).enumerate().for_each(|(i, chunk)| body(piece * each + i, chunk));
    };
    let (run, left, first) = (&run, &left, pieces.next());
    rayon::scope(|scope| {
        pieces.for_each(|(i, out)| scope.spawn(move |_| run(i, out)));
        first.into_iter().for_each(|(i, out)| run(i, out));
        // Not left to the end of the scope, which would soon fall asleep.
        work_until(|| left.load(Ordering::Acquire) == 0);
    });
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use super::*;

    /// Squares of the indices of `n` numbers, in chunks of 3.
    fn squares(n: usize, work: usize) -> Vec<usize> {
        let mut out = vec![0; n];
        for_each_chunk(&mut out, 3, work, |chunk, out| {
            out.iter_mut().enumerate().for_each(|(i, x)| *x = (3 * chunk + i) * (3 * chunk + i));
        });
        out
    }

    #[test]
    fn every_chunk_has_its_index_however_many_threads_there_are() {
        for threads in [1, 2, 3, 7] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
            for n in [0, 1, 3, 4, 20, 100] {
                let expected: Vec<usize> = (0..n).map(|i| i * i).collect();
                for work in [0, 2 * PIECE, 100 * PIECE] {
                    pool.install(|| on_a_worker(|| assert_eq!(squares(n, work), expected)));
                    assert_eq!(pool.install(|| squares(n, work)), expected);
                }
            }
        }
    }

    #[test]
    fn sessions_beside_each_other_and_other_work_in_the_pool_all_end() {
        use rayon::prelude::*;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
        let expected: Vec<usize> = (0..100).map(|i| i * i).collect();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..300 {
                        pool.install(|| on_a_worker(|| assert_eq!(squares(100, 100 * PIECE), expected)));
                    }
                });
            }
            scope.spawn(|| {
                for _ in 0..300 {
                    let sum: usize = pool.install(|| (0..1000usize).into_par_iter().map(|i| i % 7).sum());
                    assert_eq!(sum, (0..1000).map(|i| i % 7).sum::<usize>());
                }
            });
        });
    }

    #[test]
    fn a_panic_ends_it_for_all() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
        let run = || pool.install(|| on_a_worker(|| panic!("on purpose")));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        pool.install(|| on_a_worker(|| ()));
    }
}
