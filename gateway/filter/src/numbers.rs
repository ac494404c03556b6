//! Which number each range set has in the maps.
//!
//! The kernel counts packets by that number, so a set keeps it for as long as it is in the policy, whatever joins and leaves
//! beside it. Must not touch the kernel.

use std::collections::{BTreeMap, BTreeSet};

use hookgate_ebpf::SETS;

use crate::policy::{PolicyError, RangeSet};

/// The numbers of the sets of one policy, from 1; 0 is no set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SetNumbers(BTreeMap<String, u8>);

impl SetNumbers {
    /// The numbers once `sets` are in force: those that stay keep theirs. A set that joins gets one that nobody has had since
    /// the last change, so that what is still in the maps of a set that leaves is not taken for its; only where old and new
    /// sets together are more than there are numbers, it gets one of those that leave now.
    ///
    /// # Errors
    ///
    /// Where there are more sets than numbers.
    pub fn after(&self, sets: &[RangeSet]) -> Result<Self, PolicyError> {
        let names: BTreeSet<&str> = sets.iter().map(|set| set.name.as_str()).collect();
        if names.len() >= SETS as usize {
            return Err(PolicyError::TooManySets { count: names.len() });
        }
        let (stay, leave): (BTreeMap<_, _>, BTreeMap<_, _>) =
            self.0.clone().into_iter().partition(|(name, _)| names.contains(name.as_str()));
        let had: BTreeSet<u8> = self.0.values().copied().collect();
        let mut free = (1..=u8::MAX).filter(|number| !had.contains(number)).chain(leave.into_values());
        let mut numbers = stay;
        for set in sets {
            if !numbers.contains_key(&set.name) {
                let number = free.next().ok_or(PolicyError::TooManySets { count: names.len() })?;
                numbers.insert(set.name.clone(), number);
            }
        }
        Ok(Self(numbers))
    }

    /// The number of the set with this name; 0 where there is none.
    pub fn number(&self, name: &str) -> u8 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// The name of the set with this number.
    pub fn name(&self, number: u8) -> Option<&str> {
        self.0.iter().find_map(|(name, its)| (*its == number).then_some(name.as_str()))
    }

    /// The numbers of the sets that `earlier` does not have.
    pub fn joined(&self, earlier: &Self) -> impl Iterator<Item = u8> {
        self.0.iter().filter(|(name, _)| !earlier.0.contains_key(*name)).map(|(_, number)| *number)
    }
}

#[cfg(test)]
mod tests {
    use hookgate_ebpf::Action;

    use super::*;

    fn sets<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<RangeSet> {
        let set = |name: &str| RangeSet { name: name.to_owned(), action: Action::Allow, prefixes: Vec::new() };
        names.into_iter().map(set).collect()
    }

    fn after(before: &SetNumbers, names: &[&str]) -> SetNumbers {
        before.after(&sets(names.iter().copied())).unwrap_or_else(|error| unreachable!("{error}"))
    }

    #[test]
    fn a_set_keeps_its_number_and_a_new_one_gets_none_that_was_just_in_use() {
        let check = |before: &SetNumbers, names: &[&str], expected: &[u8]| {
            let numbers = after(before, names);
            let found: Vec<u8> = names.iter().map(|name| numbers.number(name)).collect();
            assert_eq!(found, expected, "{names:?} after {before:?}");
            for (name, number) in names.iter().zip(found) {
                assert_eq!(numbers.name(number), Some(*name));
            }
            numbers
        };
        let first = check(&SetNumbers::default(), &["a", "b", "c"], &[1, 2, 3]);
        let second = check(&first, &["c", "d", "b"], &[3, 4, 2]);
        assert_eq!(second.joined(&first).collect::<Vec<_>>(), [4]);
        assert_eq!((second.number("a"), second.name(1)), (0, None), "gone");
        check(&second, &["d", "e", "a"], &[4, 1, 5]);
        check(&first, &[], &[]);
    }

    #[test]
    fn every_number_can_be_used_and_all_sets_may_change_at_once() {
        let names: Vec<String> = (0..256).map(|index| format!("set {index}")).collect();
        let most: Vec<&str> = names.iter().take(255).map(String::as_str).collect();
        let full = after(&SetNumbers::default(), &most);
        assert_eq!((full.number("set 0"), full.number("set 254")), (1, 255));
        let others: Vec<String> = most.iter().map(|name| format!("other {name}")).collect();
        let replaced = after(&full, &others.iter().map(String::as_str).collect::<Vec<_>>());
        let numbers: BTreeSet<u8> = replaced.0.values().copied().collect();
        assert_eq!(numbers.len(), 255, "each has its own");
        let error = full.after(&sets(names.iter().map(String::as_str)));
        assert_eq!(error, Err(PolicyError::TooManySets { count: 256 }));
    }
}
