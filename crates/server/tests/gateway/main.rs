//! The gateway through real sockets: what is checked before a command looks at its own fields
//! (rest-overview.md sections 1, 2, 5 and 6.1), hostile bodies, and that nothing of it writes anything.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should stop where it is")]

mod below_http;
mod bodies;
mod operations;
mod queries;
mod world;
