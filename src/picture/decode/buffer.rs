//! Pixel buffers that a thread keeps from one picture to the next: tens of megabytes that the system would otherwise
//! hand out and clear page by page for every picture, a tenth of the time of a large one.

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a thread keeps at most. A larger buffer is given back to the system.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// What all threads keep together, however many there are: buffers are beside what is reserved for pictures.
const ALL_KEPT_BYTES_MAX: usize = 128 * 1024 * 1024;

/// Capacity of the buffers that threads have kept.
static ALL_KEPT_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static KEPT: RefCell<Kept> = const { RefCell::new(Kept(Vec::new())) };
}

/// Counted for as long as it is kept, the end of its thread included.
struct Kept(Vec<u8>);

impl Kept {
    fn take(&mut self) -> Vec<u8> {
        ALL_KEPT_BYTES.fetch_sub(self.0.capacity(), Ordering::Relaxed);
        std::mem::take(&mut self.0)
    }

    /// Gives it back to the system instead where there is no room for it.
    fn put(&mut self, buffer: Vec<u8>) {
        drop(self.take());
        let bytes = buffer.capacity();
        let room = |all: usize| all.checked_add(bytes).filter(|all| *all <= ALL_KEPT_BYTES_MAX);
        if ALL_KEPT_BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).is_ok() {
            self.0 = buffer;
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.take());
    }
}

/// A buffer of `length` bytes whose content means nothing.
pub(super) fn take(length: usize) -> Vec<u8> {
    let mut buffer = KEPT.with_borrow_mut(Kept::take);
    if buffer.capacity() < length {
        // Not grown: that would copy what means nothing.
        return vec![0; length];
    }
    buffer.resize(length, 0);
    buffer
}

/// Gives a buffer back that is no longer used. The larger one of two is kept.
pub(super) fn keep(buffer: Vec<u8>) {
    KEPT.with_borrow_mut(|kept| {
        if buffer.capacity() > kept.0.capacity() && buffer.capacity() <= KEPT_BYTES_MAX {
            kept.put(buffer);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_in_the_size_that_is_asked_for() {
        let first = take(1000);
        let place = first.as_ptr();
        keep(first);
        let second = take(900);
        assert_eq!((second.as_ptr(), second.len()), (place, 900));
        keep(second);
        assert_eq!(take(2000).len(), 2000);
        keep(Vec::with_capacity(KEPT_BYTES_MAX + 1));
        assert!(KEPT.with_borrow_mut(Kept::take).capacity() <= KEPT_BYTES_MAX);
        all_threads_keep_no_more_than_their_sum();
    }

    /// Not a test of its own: it takes all the room for a moment.
    fn all_threads_keep_no_more_than_their_sum() {
        let (told, kept) = std::sync::mpsc::channel();
        let threads: Vec<_> = (0..6)
            .map(|_| {
                let (told, (end, ended)) = (told.clone(), std::sync::mpsc::channel::<()>());
                let thread = std::thread::spawn(move || {
                    keep(Vec::with_capacity(KEPT_BYTES_MAX));
                    told.send(KEPT.with_borrow(|kept| kept.0.capacity())).unwrap();
                    let _ = ended.recv();
                });
                (thread, end)
            })
            .collect();
        let kept: usize = (0..threads.len()).map(|_| kept.recv().unwrap()).sum();
        assert!(kept <= ALL_KEPT_BYTES_MAX, "{kept}");
        for (thread, end) in threads {
            drop(end);
            thread.join().unwrap();
        }
    }
}
