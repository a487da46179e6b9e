//! The JSON vocabulary that all endpoints share. Nothing outside of this module and of the endpoints knows
//! what JSON is.
//!
//! A request goes through [`json`] (bytes to a document) and [`fields`] (members to typed values, or an
//! error that names the field); its answer is written by
//! [`envelope`], and what went wrong has its number in [`error_code`].

pub mod json;

pub mod fields;

pub mod envelope;

pub mod error_code;
