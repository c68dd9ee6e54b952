//! How one thread hands values to another that never waits: numbers are atomics, tables change hands under a lock that the
//! reader only tries, and it looks at a table only when its version has changed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// One number, or nothing.
#[derive(Debug)]
pub struct Reading(AtomicU64);

impl Default for Reading {
    fn default() -> Self {
        Self(AtomicU64::new(f64::NAN.to_bits()))
    }
}

impl Reading {
    pub fn set(&self, value: Option<f64>) {
        self.0.store(value.unwrap_or(f64::NAN).to_bits(), Ordering::Relaxed);
    }

    #[must_use]
    pub fn get(&self) -> Option<f64> {
        let value = f64::from_bits(self.0.load(Ordering::Relaxed));
        (!value.is_nan()).then_some(value)
    }
}

/// A value that changes seldom.
#[derive(Debug)]
pub struct Slot<T> {
    version: AtomicU64,
    value: Mutex<Arc<T>>,
}

impl<T: Default> Default for Slot<T> {
    fn default() -> Self {
        Self { version: AtomicU64::new(0), value: Mutex::new(Arc::new(T::default())) }
    }
}

impl<T: PartialEq> Slot<T> {
    /// Replaces the value if it is another one.
    pub fn offer(&self, value: T) {
        let mut held = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        if **held != value {
            *held = Arc::new(value);
            self.version.fetch_add(1, Ordering::Release);
        }
    }
}

impl<T> Slot<T> {
    /// For threads that may wait.
    #[must_use]
    pub fn get(&self) -> Arc<T> {
        Arc::clone(&self.value.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The sampler's copy of a slot's value.
#[derive(Debug, Default)]
pub struct View<T> {
    seen: u64,
    pub value: Arc<T>,
}

impl<T> View<T> {
    /// Of what is known before the slot was ever looked at.
    #[must_use]
    pub const fn of(value: Arc<T>) -> Self {
        Self { seen: 0, value }
    }

    /// Whether the value is another one than at the last call. A slot that is just being written is looked at next time.
    pub fn refresh(&mut self, slot: &Slot<T>) -> bool {
        let version = slot.version.load(Ordering::Acquire);
        if version == self.seen {
            return false;
        }
        let Ok(held) = slot.value.try_lock() else { return false };
        self.value = Arc::clone(&held);
        self.seen = version;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_changes_when_its_slot_does() {
        let (slot, mut view) = (Slot::<Vec<u8>>::default(), View::default());
        assert!(!view.refresh(&slot));
        slot.offer(vec![1]);
        assert!(view.refresh(&slot) && *view.value == [1]);
        slot.offer(vec![1]);
        assert!(!view.refresh(&slot), "an equal value is no news");
    }

    #[test]
    fn a_slot_in_use_is_never_waited_for() {
        let (slot, mut view) = (Slot::<Vec<u8>>::default(), View::default());
        slot.offer(vec![1]);
        let held = slot.value.lock().unwrap();
        assert!(!view.refresh(&slot));
        drop(held);
        assert!(view.refresh(&slot), "nothing is lost by that");
    }

    #[test]
    fn a_reading_may_be_missing() {
        let reading = Reading::default();
        assert_eq!(reading.get(), None);
        reading.set(Some(0.0));
        assert_eq!(reading.get(), Some(0.0));
        reading.set(None);
        assert_eq!(reading.get(), None);
    }
}
