//! The memory of tickets already checked. Inflating and hashing a token for every request would
//! cost more than most requests themselves.

use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::user_sig::{self, MAX_TOKEN_BYTES, UserSigError, Verified};
use crate::config::Secret;

/// Verified tokens, until when they are valid and by which key. Memory is bounded: an entry is 48 bytes and some
/// bookkeeping, however long the token was, and the least used entries make room for new ones.
pub struct VerifiedSignatures {
    verified: Cache<Fingerprint, Verified>,
    hits: AtomicU64,
    misses: AtomicU64,
}

impl VerifiedSignatures {
    /// Remembers about `capacity` tokens; the cache is split into parts, which round it up. With 0
    /// nothing is remembered.
    pub fn new(capacity: usize) -> Self {
        Self { verified: Cache::new(capacity), hits: AtomicU64::new(0), misses: AtomicU64::new(0) }
    }

    /// Answers as [`user_sig::verify`] does, but without decoding a token that was accepted before
    /// for the same app, identifier and keys. Refused tokens are not remembered, so that a flood of
    /// them displaces nothing; `now` is in Unix seconds.
    pub fn check(
        &self,
        token: &str,
        sdk_app_id: u32,
        identifier: &str,
        keys: &[Secret],
        now: u64,
    ) -> Result<(), UserSigError> {
        self.verify(token, sdk_app_id, identifier, keys, now).map(|_| ())
    }

    /// The same, and what the token has proved.
    pub fn verify(
        &self,
        token: &str,
        sdk_app_id: u32,
        identifier: &str,
        keys: &[Secret],
        now: u64,
    ) -> Result<Verified, UserSigError> {
        // What is too long cannot have been accepted. It is not even hashed.
        let fingerprint =
            (token.len() <= MAX_TOKEN_BYTES).then(|| fingerprint(token, sdk_app_id, identifier, keys));
        if let Some(fingerprint) = fingerprint
            && let Some(verified) = self.verified.get(&fingerprint)
        {
            self.hits.fetch_add(1, Ordering::Relaxed);
            if now <= verified.expires_at {
                return Ok(verified);
            }
            self.verified.remove(&fingerprint);
            return Err(UserSigError::Expired);
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        let verified = user_sig::verify(token, sdk_app_id, identifier, keys, now)?;
        if let Some(fingerprint) = fingerprint {
            self.verified.insert(fingerprint, verified);
        }
        Ok(verified)
    }

    /// Forgets everything. After a change of keys this gives back memory; the old entries do not
    /// fit the new keys anyway.
    pub fn clear(&self) {
        self.verified.clear();
    }

    /// How many checks were answered from memory since the start, expired tokens included.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// How many checks had to decode the token since the start.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }
}

/// SHA-256 over everything that a positive answer depends on, apart from the time. Equal
/// fingerprints mean equal inputs, and the memory holds no token that somebody could use.
type Fingerprint = [u8; 32];

fn fingerprint(token: &str, sdk_app_id: u32, identifier: &str, keys: &[Secret]) -> Fingerprint {
    let mut hash = Sha256::new();
    hash.update(sdk_app_id.to_le_bytes());
    // The keys are part of it, so that a check that began before a change of keys and ends after it
    // leaves nothing behind that the new keys would honour.
    let parts = [token.as_bytes(), identifier.as_bytes()].into_iter().chain(keys.iter().map(Secret::expose));
    for part in parts {
        // The length in front keeps "ab" + "c" apart from "a" + "bc".
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::super::user_sig::sign;
    use super::*;

    const APP: u32 = 1_400_000_001;
    const ISSUED: u64 = 1_700_000_000;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned()).unwrap()
    }

    fn token(identifier: &str) -> String {
        sign(APP, &secret("key"), identifier, ISSUED, 60, None)
    }

    #[test]
    fn the_second_check_of_a_token_is_answered_from_memory() {
        let (memory, keys, alice) = (VerifiedSignatures::new(100), [secret("key")], token("alice"));
        for now in [ISSUED, ISSUED + 1, ISSUED + 60] {
            assert_eq!(memory.check(&alice, APP, "alice", &keys, now), Ok(()));
        }
        assert_eq!((memory.hits(), memory.misses()), (2, 1));
    }

    #[test]
    fn a_remembered_token_expires_and_is_forgotten() {
        let (memory, keys, alice) = (VerifiedSignatures::new(100), [secret("key")], token("alice"));
        assert_eq!(memory.check(&alice, APP, "alice", &keys, ISSUED), Ok(()));
        assert_eq!(memory.check(&alice, APP, "alice", &keys, ISSUED + 61), Err(UserSigError::Expired));
        assert_eq!(memory.verified.len(), 0);
        assert_eq!(memory.check(&alice, APP, "alice", &keys, ISSUED + 61), Err(UserSigError::Expired));
        assert_eq!((memory.hits(), memory.misses()), (1, 2));
    }

    #[test]
    fn only_the_same_token_for_the_same_app_user_and_keys_is_remembered() {
        let (memory, keys, alice) = (VerifiedSignatures::new(100), [secret("key")], token("alice"));
        assert_eq!(memory.check(&alice, APP, "alice", &keys, ISSUED), Ok(()));

        let check = |token: &str, app, user, keys: &[Secret]| memory.check(token, app, user, keys, ISSUED);
        assert_eq!(check(&alice, APP + 1, "alice", &keys), Err(UserSigError::OtherApp));
        assert_eq!(check(&alice, APP, "bob", &keys), Err(UserSigError::OtherUser));
        assert_eq!(check(&alice, APP, "alice", &[secret("new key")]), Err(UserSigError::WrongKey));
        assert_eq!(check(&alice, APP, "alice", &[]), Err(UserSigError::NoKey));
        assert_eq!(check(&alice[1..], APP, "alice", &keys), Err(UserSigError::Illegal));
        // Moving a character from one part of the triple to the next makes another triple.
        let (shorter, last) = alice.split_at(alice.len() - 1);
        let longer_name = format!("{last}alice");
        assert_eq!(check(shorter, APP, &longer_name, &keys), Err(UserSigError::Illegal));
        assert_eq!(memory.hits(), 0);
    }

    #[test]
    fn a_new_key_beside_the_old_one_keeps_old_tokens_valid() {
        let (memory, alice) = (VerifiedSignatures::new(100), token("alice"));
        assert_eq!(memory.check(&alice, APP, "alice", &[secret("key")], ISSUED), Ok(()));
        let rotating = [secret("new key"), secret("key")];
        // It is known by which of them it was signed, from memory too.
        for _ in 0..2 {
            let verified = memory.verify(&alice, APP, "alice", &rotating, ISSUED);
            assert_eq!(verified, Ok(Verified { expires_at: ISSUED + 60, key: 1 }));
        }
        assert_eq!(memory.hits(), 1);
    }

    #[test]
    fn refused_tokens_are_not_remembered() {
        let (memory, keys) = (VerifiedSignatures::new(100), [secret("key")]);
        let too_long = "A".repeat(MAX_TOKEN_BYTES + 1);
        for token in ["garbage", &too_long, &token("bob")] {
            for _ in 0..2 {
                assert!(memory.check(token, APP, "alice", &keys, ISSUED).is_err());
            }
        }
        let expired = memory.check(&token("alice"), APP, "alice", &keys, ISSUED + 61);
        assert_eq!(expired, Err(UserSigError::Expired));
        assert_eq!((memory.hits(), memory.misses(), memory.verified.len()), (0, 7, 0));
    }

    #[test]
    fn memory_is_bounded_and_forgetting_only_costs_time() {
        let (memory, keys) = (VerifiedSignatures::new(64), [secret("key")]);
        let users: Vec<String> = (0..1000).map(|number| format!("user{number}")).collect();
        for user in users.iter().chain(&users) {
            assert_eq!(memory.check(&token(user), APP, user, &keys, ISSUED), Ok(()));
            assert!(memory.verified.len() <= 64);
        }
        assert!(!memory.verified.is_empty());
    }

    #[test]
    fn without_capacity_every_token_is_verified_anew() {
        let (memory, keys, alice) = (VerifiedSignatures::new(0), [secret("key")], token("alice"));
        for _ in 0..3 {
            assert_eq!(memory.check(&alice, APP, "alice", &keys, ISSUED), Ok(()));
        }
        assert_eq!((memory.hits(), memory.misses()), (0, 3));
    }

    #[test]
    fn clearing_forgets_everything() {
        let (memory, keys, alice) = (VerifiedSignatures::new(100), [secret("key")], token("alice"));
        for _ in 0..2 {
            assert_eq!(memory.check(&alice, APP, "alice", &keys, ISSUED), Ok(()));
            memory.clear();
            assert_eq!(memory.verified.len(), 0);
        }
        assert_eq!((memory.hits(), memory.misses()), (0, 2));
    }

    #[test]
    fn many_threads_share_one_memory() {
        let (memory, keys) = (VerifiedSignatures::new(100), [secret("key")]);
        let tokens = ["alice", "bob"].map(|user| (user, token(user)));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for (user, token) in tokens.iter().cycle().take(200) {
                        assert_eq!(memory.check(token, APP, user, &keys, ISSUED), Ok(()));
                    }
                });
            }
        });
        assert_eq!(memory.hits() + memory.misses(), 800);
        assert!(memory.misses() <= 8, "each thread misses each token at most once");
    }
}
