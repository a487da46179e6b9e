//! The real server on a disk that loses power, that is full, and that breaks.

mod bench;
mod faults;
mod model;
mod order;
mod power;
