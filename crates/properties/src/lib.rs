//! What must hold for any bytes that reach Sidenote from outside.
//!
//! Each property takes bytes that somebody else chose and panics if Sidenote does not treat them as it should,
//! which is told by a second, slower reading that shares no code with the first. The fuzz targets in `fuzz/` look
//! for bytes that break one; the tests of this crate replay what is in `fuzz/corpus`, so that neither rots.
//!
//! A property never refuses bytes: where an input has parts, what is missing is empty.

mod door;
mod raw_json;

mod body;
mod query;
mod record;
mod user_sig;

pub use body::body;
pub use query::query;
pub use record::record;
pub use user_sig::user_sig;

/// Panics if what must hold for these bytes does not.
pub type Property = fn(&[u8]);

/// A property by the name of its fuzz target and of its folder in `fuzz/corpus`.
pub const ALL: &[(&str, Property)] =
    &[("query", query), ("user_sig", user_sig), ("body", body), ("record", record)];
