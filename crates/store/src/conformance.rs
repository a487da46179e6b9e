//! The suite that every backend must pass, behind the cargo feature of the same name.
//!
//! A backend's own test says how a fresh, empty store is opened, and calls the entries:
//!
//! ```no_run
//! use std::sync::Arc;
//! use sidenote_store::{Store, conformance, memory::MemoryStore};
//!
//! # async fn scenarios() {
//! conformance::run(async |limits| Arc::new(MemoryStore::new(limits)) as Arc<dyn Store>).await;
//! # }
//! conformance::check_property(async |limits| Arc::new(MemoryStore::new(limits)) as Arc<dyn Store>, 64);
//! conformance::check_letters(async |limits| Arc::new(MemoryStore::new(limits)) as Arc<dyn Store>, 64);
//! ```
//!
//! * [`run`] plays named scenarios, each on a store of its own;
//! * [`check_property`] plays random requests on a store and on a [model](model::Model) of the rules that shares
//!   no code with `sidenote-core`, and compares every answer;
//! * [`check_letters`] does the same with messages between two accounts and a plain list of them;
//! * [`check_agreement`] plays random commands on a store and on the [plain one](crate::memory), and asks both everything
//!   that can be asked.
//!
//! All fail by panicking, as tests do.

pub mod agreement;
pub mod model;

mod letters;
mod property;
mod scenarios;
mod world;

use std::sync::Arc;

use sidenote_core::Limits;

use crate::Store;

pub use agreement::check_agreement;
pub use letters::check_letters;
pub use property::check_property;

/// Plays every scenario on a store of its own. Needs a tokio runtime, best one of several threads.
///
/// # Panics
///
/// If the store does not do what it must.
pub async fn run(open: impl AsyncFn(Limits) -> Arc<dyn Store>) {
    scenarios::run(&open).await;
}
