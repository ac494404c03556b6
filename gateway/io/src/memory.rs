//! When freed memory goes back to the kernel.
//!
//! Owns the calls into mimalloc, the allocator of the daemon, and how large the pages of the process are. Must not allocate.
//!
//! By itself, mimalloc returns memory as a side effect: a thread that frees a page looks at what it freed in the same segment more than 10 ms
//! ago. So what a burst has freed last stays, and so does what another thread has freed. A busy thread, on the other hand, returns
//! memory that it needs again a moment later, at the price of a system call and of a page fault for every 4 KiB. So [`set_up`] turns this off,
//! and each worker and the control thread call [`return_unused`] once in [`RETURN_INTERVAL`]. They need not know whether anything was freed.
//!
//! With transparent huge pages, which mimalloc asks for, one byte in use keeps 2 MiB resident, and khugepaged brings back what was returned.
//! So [`set_up`] forbids them. Workers use too little memory to gain from them.
//!
//! JUSTIFICATION for `unsafe`: mimalloc is a library in C.
#![expect(unsafe_code, reason = "two calls into C; see their SAFETY comments")]

use std::io;
use std::time::Duration;

/// Interval between two calls of [`return_unused`] on one thread. A page takes two of them at most: the first may find that nothing on it is
/// in use any more, and the second returns it.
pub const RETURN_INTERVAL: Duration = Duration::from_secs(1);

/// How long mimalloc waits before it returns memory by itself, in milliseconds: longer than [`RETURN_INTERVAL`], so that it rarely does.
const PURGE_DELAY_MS: libc::c_long = 10_000;

/// The number of mimalloc's option `purge_delay`, which the crate does not name. A test finds out if another version counts differently.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = libmimalloc_sys::mi_option_eager_commit_delay + 1;

/// Leaves the return of memory to [`return_unused`], and forbids huge pages to the whole process. Call it before other threads start.
///
/// # Errors
///
/// The kernel does not forbid huge pages (prctl(2), `PR_SET_THP_DISABLE`), for example because of a filter of system calls. If the host enables
/// them for every process, resident memory may then exceed what is in use by megabytes. Everything else works.
pub fn set_up() -> io::Result<()> {
    // SAFETY: the function writes a number. No other thread reads it yet.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, PURGE_DELAY_MS) };
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
}

/// Returns to the kernel what this thread has allocated and any thread has freed, in units of 64 KiB. Call it once in [`RETURN_INTERVAL`]: it
/// looks at every page of the thread's heap, which takes some 20 µs, and 20 ns more for each open connection (measured with 5,000). Without
/// mimalloc as the allocator it does nothing.
pub fn return_unused() {
    // SAFETY: the function has no precondition. It looks at the calling thread's heap, and at memory of threads that have ended, and moves
    // nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(true) };
}

#[cfg(test)]
mod tests {
    use std::ptr::NonNull;
    use std::thread;

    use libmimalloc_sys::{mi_free, mi_malloc, mi_option_get};

    use super::*;

    const MIB: usize = 1 << 20;

    /// A block of mimalloc's that was written to. It may be freed by another thread.
    struct Block(NonNull<u8>);

    // SAFETY: mimalloc lets any thread free a block, and nothing else refers to this one.
    unsafe impl Send for Block {}

    impl Block {
        fn new() -> Self {
            // SAFETY: the function has no precondition.
            let start = unsafe { mi_malloc(MIB) }.cast::<u8>();
            let start = NonNull::new(start).expect("memory");
            // SAFETY: the block has a MiB.
            unsafe { start.write_bytes(1, MIB) };
            Self(start)
        }

        /// Frees it, and says where it was.
        fn free(self) -> usize {
            // SAFETY: the block came from `mi_malloc`, and is not used any more.
            unsafe { mi_free(self.0.as_ptr().cast()) };
            self.0.addr().get()
        }
    }

    /// How much of the 960 KiB in the middle of a block is resident, in pages of 4 KiB. What else is in the 64 KiB at its ends does not
    /// matter.
    fn resident(block: usize) -> usize {
        const INSIDE: usize = MIB - 64 * 1024;
        let mut pages = [0_u8; INSIDE / 4096];
        let start = (block + 32 * 1024).next_multiple_of(4096);
        // SAFETY: the call writes a byte for each page. It reads nothing at the address, which the test does not use any more.
        let outcome = unsafe { libc::mincore(start as *mut libc::c_void, INSIDE, pages.as_mut_ptr()) };
        assert_eq!(outcome, 0, "{}", io::Error::last_os_error());
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    #[test]
    fn what_any_thread_has_freed_is_returned_on_demand() {
        // SAFETY: the function reads a number.
        let default = unsafe { mi_option_get(PURGE_DELAY) };
        assert_eq!(default, 10, "the option is purge_delay, and no other");
        set_up().expect("huge pages can be forbidden");
        let [kept, first, second] = [Block::new(), Block::new(), Block::new()];
        let freed = [first.free(), thread::spawn(move || second.free()).join().expect("a thread that frees a block")];
        assert!(freed.iter().all(|block| resident(*block) > 0), "not yet: it may be needed soon");
        return_unused();
        return_unused();
        assert_eq!(freed.map(resident), [0, 0]);
        let kept = kept.free();
        assert!(resident(kept) > 0, "it was in use");
    }
}
