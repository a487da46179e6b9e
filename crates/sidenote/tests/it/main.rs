//! Tests through the front door: the real binary, real sockets, real files.

mod caller;
mod server;

mod cli;
mod demo;
mod serve;

mod capacity;
mod codes;
mod concurrency;
mod crash;
