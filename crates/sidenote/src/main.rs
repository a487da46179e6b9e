//! The sidenote binary.
fn main() {}
