//! The threads of the CPU device: those of rayon's pool, kept awake while there is something to compute.

#[cfg(not(target_arch = "wasm32"))]
use std::cell::Cell;
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
        let ended = Arc::new(AtomicBool::new(false));
        let until = ended.clone();
        scope.spawn_broadcast(move |_, _| {
            // This thread takes it up too, where it waits for a piece, as does that of a session beside: those would wait for
            // themselves, or for each other.
            if BODIES.get() == 0 {
                work_until(|| until.load(Ordering::Acquire));
            }
        });
        BODIES.set(BODIES.get() + 1);
        let _end = OnDrop(|| {
            BODIES.set(BODIES.get() - 1);
            ended.store(true, Ordering::Release);
        });
        body();
    });
}

#[cfg(not(target_arch = "wasm32"))]
thread_local! {
    /// Bodies that have begun on this thread and not ended.
    static BODIES: Cell<u32> = const { Cell::new(0) };
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
/// waits looks for work, and could take up what keeps it awake until the token ends, which in turn waits for that piece.
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

    /// Products as a token has them: pieces of some microseconds, so that threads wait for each other.
    fn products() {
        for _ in 0..20 {
            let mut out = [0u64; 3];
            for_each_chunk(&mut out, 1, 3 * PIECE, |i, out| {
                out[0] = (0..5000 * (1 + i as u64)).fold(0, |sum, x| std::hint::black_box(sum ^ x));
            });
            std::hint::black_box(out);
        }
    }

    #[test]
    fn sessions_beside_each_other_and_other_work_in_the_pool_all_end() {
        use rayon::prelude::*;
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| (0..500).for_each(|_| pool.install(|| on_a_worker(products))));
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
    fn tokens_that_begin_at_once_do_not_wait_for_each_other() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().expect("threads");
        for _ in 0..200 {
            // All threads are held up until both tokens are there to be taken; the third one then takes pieces of both.
            let gate = Arc::new(std::sync::Barrier::new(4));
            for _ in 0..3 {
                let gate = gate.clone();
                pool.spawn(move || _ = gate.wait());
            }
            std::thread::scope(|scope| {
                (0..2).for_each(|_| _ = scope.spawn(|| pool.install(|| on_a_worker(products))));
                std::thread::sleep(std::time::Duration::from_micros(500));
                gate.wait();
            });
        }
    }

    #[test]
    fn a_panic_ends_it_for_all() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("threads");
        let run = || pool.install(|| on_a_worker(|| panic!("on purpose")));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
        pool.install(|| on_a_worker(|| ()));
    }
}
