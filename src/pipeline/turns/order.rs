//! A queue of keys by the number of their running messages, which decides whose turn is next.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;

/// Sorted keys: the fewest running messages first; among equals, the one that has waited the longest.
#[derive(Debug)]
pub(super) struct Order<K> {
    sorted: BTreeSet<(usize, u64, K)>,
    places: HashMap<K, (usize, u64)>,
}

impl<K> Default for Order<K> {
    fn default() -> Self {
        Self { sorted: BTreeSet::new(), places: HashMap::new() }
    }
}

impl<K: Clone + Ord + Hash> Order<K> {
    /// `stamp` must grow with each call: the key goes behind all with as many running.
    pub(super) fn insert(&mut self, key: K, running: usize, stamp: u64) {
        self.remove(&key);
        self.places.insert(key.clone(), (running, stamp));
        self.sorted.insert((running, stamp, key));
    }

    /// Updates the count of a listed key.
    pub(super) fn change(&mut self, key: &K, running: usize) {
        if let Some((_, stamp)) = self.places.get(key).copied() {
            self.insert(key.clone(), running, stamp);
        }
    }

    /// Moves a listed key behind all with as many running.
    pub(super) fn defer(&mut self, key: &K, stamp: u64) {
        if let Some((running, _)) = self.places.get(key).copied() {
            self.insert(key.clone(), running, stamp);
        }
    }

    pub(super) fn remove(&mut self, key: &K) {
        if let Some((running, stamp)) = self.places.remove(key) {
            self.sorted.remove(&(running, stamp, key.clone()));
        }
    }

    pub(super) fn contains(&self, key: &K) -> bool {
        self.places.contains_key(key)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &K> {
        self.sorted.iter().map(|(_, _, key)| key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_under_way_first_then_the_longest_wait() {
        let mut order = Order::default();
        for (stamp, key) in ["a", "b", "c"].into_iter().enumerate() {
            order.insert(key, 1, stamp as u64);
        }
        order.change(&"b", 0);
        order.change(&"none", 0);
        assert_eq!(order.iter().copied().collect::<Vec<_>>(), ["b", "a", "c"]);
        order.defer(&"a", 9);
        order.remove(&"b");
        assert_eq!(order.iter().copied().collect::<Vec<_>>(), ["c", "a"]);
        assert!(order.contains(&"a") && !order.contains(&"b") && order.len() == 2);
    }
}
