//! What was taken of a handler's answer ahead of its peer, so that a slow peer does not keep the handler's place.
//!
//! Owns the memory and its count. Must not decide when to take: [`super::body`] does.

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};

/// Bytes are copied into blocks of this size: a piece as it was received can keep a buffer alive that is a thousand times as long. Four
/// TLS records, which the peer's connection takes at once.
const BLOCK: usize = 64 * 1024;

/// What may be held.
#[derive(Clone, Copy, Debug)]
pub(super) struct HeldLimits {
    /// Bytes of one answer.
    pub(super) answer: usize,
    /// Bytes of all answers of this worker.
    pub(super) total: usize,
}

/// Bytes of one answer.
pub(super) struct Held {
    full: VecDeque<Bytes>,
    last: BytesMut,
    /// Bytes in `full` and `last`.
    length: usize,
    /// Bytes of the blocks of all answers of this worker.
    total: Rc<Cell<usize>>,
}

impl Held {
    /// Nothing yet; counted in `total`.
    pub(super) fn new(total: Rc<Cell<usize>>) -> Self {
        Self { full: VecDeque::new(), last: BytesMut::new(), length: 0, total }
    }

    /// Whether another piece may be taken. The last one can exceed the limits by its length: at most hyper's buffer.
    pub(super) fn has_room(&self, limits: HeldLimits) -> bool {
        self.length < limits.answer && self.total.get() < limits.total
    }

    /// Bytes that are held.
    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Adds a copy of `piece`.
    pub(super) fn push(&mut self, mut piece: &[u8]) {
        self.length += piece.len();
        while !piece.is_empty() {
            if self.last.capacity() == 0 {
                self.last = BytesMut::with_capacity(BLOCK);
                self.total.set(self.total.get() + BLOCK);
            }
            let count = piece.len().min(BLOCK - self.last.len());
            self.last.extend_from_slice(&piece[..count]);
            piece = &piece[count..];
            if self.last.len() == BLOCK {
                self.full.push_back(std::mem::take(&mut self.last).freeze());
            }
        }
    }

    /// Removes the oldest bytes.
    pub(super) fn pop(&mut self) -> Option<Bytes> {
        let block = match self.full.pop_front() {
            Some(block) => block,
            None if self.last.is_empty() => return None,
            None => std::mem::take(&mut self.last).freeze(),
        };
        self.length -= block.len();
        self.total.set(self.total.get() - BLOCK);
        Some(block)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let blocks = self.full.len() + usize::from(self.last.capacity() > 0);
        self.total.set(self.total.get() - blocks * BLOCK);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_pushed_is_popped_in_order_and_counted_by_the_block() {
        let total = Rc::new(Cell::new(0));
        let mut held = Held::new(Rc::clone(&total));
        assert_eq!(held.pop(), None);
        let bytes: Vec<u8> = (0..3 * BLOCK + 5).map(|index| index.to_le_bytes()[0]).collect();
        for piece in [&bytes[..1], &bytes[1..BLOCK], &[], &bytes[BLOCK..]] {
            held.push(piece);
        }
        assert_eq!((held.len(), total.get()), (bytes.len(), 4 * BLOCK));
        let mut popped = Vec::new();
        while let Some(block) = held.pop() {
            popped.extend_from_slice(&block);
        }
        assert!(popped == bytes);
        assert_eq!((held.len(), total.get()), (0, 0));
        held.push(b"again");
        assert_eq!(held.pop().as_deref(), Some(&b"again"[..]));
    }

    #[test]
    fn both_limits_hold_and_what_is_dropped_is_not_counted() {
        let total = Rc::new(Cell::new(0));
        let limits = HeldLimits { answer: 10, total: 2 * BLOCK };
        let mut one = Held::new(Rc::clone(&total));
        assert!(!one.has_room(HeldLimits { answer: 0, ..limits }));
        one.push(b"123456789");
        assert!(one.has_room(limits));
        one.push(b"0");
        assert!(!one.has_room(limits));
        let mut other = Held::new(Rc::clone(&total));
        assert!(other.has_room(limits));
        other.push(&[0; BLOCK]);
        assert!(!Held::new(Rc::clone(&total)).has_room(limits));
        drop(one);
        assert!(Held::new(Rc::clone(&total)).has_room(limits));
        drop(other);
        assert_eq!(total.get(), 0);
    }
}
