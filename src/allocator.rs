//! Where memory comes from, and how soon it goes back to the system. Pictures are large, and pictures of one kind leave holes that those
//! of the next do not fit into: what both allocators keep by default would add up to more than what `docs/operations.md` (Sizing) says.
//!
//! With the sanitizer (`scripts/sanitize`), the system's allocator is used, which the sanitizer replaces by its own.

use libmimalloc_sys::{mi_option_t, mi_option_use_numa_nodes};

/// Batches of vectors and pictures are large, short-lived and allocated on many threads: mimalloc is made for this.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` in `mimalloc.h`, which the binding does not name: the one before this.
const PURGE_DELAY: mi_option_t = mi_option_use_numa_nodes - 1;
/// Milliseconds. mimalloc 3 waits for 1,000; mimalloc 2 waited for 10.
const SOON_MS: std::ffi::c_long = 10;

/// Bytes. Above it, glibc maps memory of its own for each allocation and unmaps it when freed. Without a fixed bound it raises it up
/// to 32 MiB as it sees large ones, which then stay in the heap of the thread that decoded them.
#[cfg(target_env = "gnu")]
const MAPPED_FROM: std::ffi::c_int = 1024 * 1024;

/// Call it first. `MIMALLOC_PURGE_DELAY` in the environment has precedence.
pub fn give_back_soon() {
    // SAFETY: there is one thread yet, and options are numbers.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, SOON_MS) };
    // A refusal leaves the default, which is only larger.
    #[cfg(target_env = "gnu")]
    // SAFETY: as above.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_FROM);
        libc::mallopt(libc::M_TRIM_THRESHOLD, MAPPED_FROM);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_option_is_the_one_that_the_environment_names() {
        // SAFETY: options are numbers.
        let found = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(found, 1000, "mimalloc's default; if it has another one now, compare the order of its options");
        give_back_soon();
        let found = unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(found, SOON_MS);
    }
}
