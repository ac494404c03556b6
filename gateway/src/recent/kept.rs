//! The refusals that are kept: a queue for each reason, from which the source with the most entries leaves first.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::certificate::EndEntity;
use super::note::Note;
use super::{CHAIN_BYTES, CHAINS_OF_REASON, OF_REASON, OF_SOURCE, Refused, source};

/// By reason, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Kept {
    reasons: BTreeMap<&'static str, VecDeque<Arc<Refused>>>,
    last: u64,
}

impl Kept {
    /// Keeps a refusal. If its reason has no place left, one of the same source leaves, or else the oldest.
    pub(super) fn add(&mut self, note: Note) {
        let end_entity = note.chain.as_ref().and_then(|chain| Some(EndEntity::of(chain.certificates().first()?)));
        let reason = note.reject.row().reason;
        self.last += 1;
        let queue = self.reasons.entry(reason).or_default();
        let is_same = |other: &Arc<Refused>| source(other.note.peer.ip()) == source(note.peer.ip());
        let same = queue.iter().filter(|other| is_same(other)).count();
        if same >= OF_SOURCE {
            let oldest = queue.iter().position(is_same).unwrap_or_default();
            queue.remove(oldest);
        } else if queue.len() >= OF_REASON {
            queue.pop_front();
        }
        queue.push_back(Arc::new(Refused { number: self.last, note, end_entity }));
        let older = queue.len().saturating_sub(CHAINS_OF_REASON);
        queue.iter_mut().take(older).for_each(forget_chain);
        self.bound_chains();
    }

    /// Forgets the oldest chains until the rest is within [`CHAIN_BYTES`].
    fn bound_chains(&mut self) {
        let mut bytes: usize = self.reasons.values().flatten().map(|refused| refused.note.chain_bytes()).sum();
        while bytes > CHAIN_BYTES {
            let with_chain = self.reasons.values_mut().flatten().filter(|refused| refused.note.chain.is_some());
            let Some(oldest) = with_chain.min_by_key(|refused| refused.number) else { return };
            bytes = bytes.saturating_sub(oldest.note.chain_bytes());
            forget_chain(oldest);
        }
    }

    /// All of them, the newest first.
    pub(super) fn all(&self) -> Vec<Arc<Refused>> {
        let mut all: Vec<Arc<Refused>> = self.reasons.values().flatten().cloned().collect();
        all.sort_by_key(|refused| std::cmp::Reverse(refused.number));
        all
    }
}

fn forget_chain(refused: &mut Arc<Refused>) {
    if refused.note.chain.is_some() {
        Arc::make_mut(refused).note.chain = None;
    }
}
