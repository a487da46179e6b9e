//! Texts of statements that are put together of parts: each is made once and kept for good. There are some dozens.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{LazyLock, PoisonError, RwLock};

/// Texts by what they were made for. What they are made for has to be of few kinds.
pub(crate) struct Texts<K>(LazyLock<RwLock<HashMap<K, &'static str>>>);

impl<K: Eq + Hash> Texts<K> {
    pub(crate) const fn new() -> Self {
        Self(LazyLock::new(RwLock::default))
    }

    /// The text for this, made now if it was not made yet.
    pub(crate) fn get(&self, key: K, make: impl FnOnce() -> String) -> &'static str {
        // Nothing panics while it holds this lock.
        if let Some(text) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&key) {
            return text;
        }
        let text = make();
        let mut texts = self.0.write().unwrap_or_else(PoisonError::into_inner);
        texts.entry(key).or_insert_with(|| text.leak())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_made_once() {
        static TEXTS: Texts<u8> = Texts::new();
        let first = TEXTS.get(1, || "one".to_owned());
        let second = TEXTS.get(1, || panic!("it is there"));
        assert!(std::ptr::eq(first, second));
        assert_eq!(TEXTS.get(2, || "two".to_owned()), "two");
    }
}
