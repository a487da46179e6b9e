//! What can be wrong with a DSN although the library takes it, and what of it may be repeated.

use crate::error::OpenError;

/// Looks for an @ that belongs to the password of a URL. The library takes the first one for the end of the password and the
/// rest for the name of a host, which is then looked up for all to see.
///
/// # Errors
///
/// What is wrong.
pub(crate) fn check(dsn: &str) -> Result<(), String> {
    let behind_login = behind_scheme(dsn).and_then(|rest| rest.split_once('@')).map_or("", |(_, rest)| rest);
    let hosts_and_name = behind_login.split('?').next().unwrap_or_default();
    if hosts_and_name.contains('@') { Err("it has more than one @".to_owned()) } else { Ok(()) }
}

/// What the library says of a DSN, with the name of an option that it does not know, if that is one.
pub(crate) fn refused(dsn: &str, reason: String) -> OpenError {
    let named = reason.contains("unknown option").then(|| reason.split('`').nth(1)).flatten();
    let unknown_option = named.filter(|name| is_harmless(dsn, name)).map(str::to_owned);
    OpenError::Dsn { reason, unknown_option }
}

/// Whether a name can't be a part of the password, of which a sign that is not written as it must be begins an option.
fn is_harmless(dsn: &str, name: &str) -> bool {
    let is_word = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let Some((before, behind)) = dsn.split_once(name) else { return false };
    let in_login = behind_scheme(dsn).is_some() && behind.contains('@');
    is_word && !in_login && !before.contains("password")
}

fn behind_scheme(dsn: &str) -> Option<&str> {
    ["postgres://", "postgresql://"].iter().find_map(|scheme| dsn.strip_prefix(scheme))
}
