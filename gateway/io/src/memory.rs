//! Memory that the allocator keeps.
//!
//! Owns the one call into mimalloc, the allocator of the daemon. Must not allocate.
//!
//! mimalloc returns memory to the kernel while a thread goes on allocating. After a burst of connections a worker may allocate
//! little for hours, and would keep all of it.
//!
//! JUSTIFICATION for `unsafe`: mimalloc is a library in C.
#![expect(unsafe_code, reason = "one call into C; see its SAFETY comment")]

/// Returns memory to the kernel that this thread has freed, and not used for a while (10 ms). It looks at every page of the thread's
/// heap, which takes some ten microseconds, so call it about once a second, and only if something was freed. Without mimalloc as the
/// allocator it does nothing.
pub fn return_unused() {
    // SAFETY: the function has no precondition. It looks at the calling thread's heap only, and moves nothing that is in use.
    unsafe { libmimalloc_sys::mi_collect(false) };
}

#[cfg(test)]
mod tests {
    #[test]
    fn unused_memory_can_be_returned_at_any_time() {
        super::return_unused();
        let used = vec![1_u8; 1 << 20];
        super::return_unused();
        assert_eq!(used.iter().map(|byte| usize::from(*byte)).sum::<usize>(), 1 << 20);
    }
}
