//! Pixel buffers that a thread keeps from one picture to the next: tens of megabytes that the system would otherwise
//! hand out and clear page by page for every picture, a tenth of the time of a large one.

use std::cell::RefCell;

/// What a thread keeps at most. A larger buffer is given back to the system.
const KEPT_BYTES_MAX: usize = 64 * 1024 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of `length` bytes whose content means nothing.
pub(super) fn take(length: usize) -> Vec<u8> {
    let mut buffer = KEPT.take();
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
        if buffer.capacity() > kept.capacity() && buffer.capacity() <= KEPT_BYTES_MAX {
            *kept = buffer;
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
        assert!(KEPT.take().capacity() <= KEPT_BYTES_MAX);
    }
}
