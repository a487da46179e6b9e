//! Who is calling: tickets that prove it, and the memory of tickets already checked.

pub mod a2;
pub mod user_sig;
mod verified;

pub use verified::VerifiedSignatures;
