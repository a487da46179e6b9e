//! The query of a request.

use std::borrow::Cow;

use sidenote_server::auth::user_sig::{UserSigError, sign, verify};
use sidenote_server::config::Secret;

use crate::door::{ADMINISTRATOR, APP, KEY, MEMBER, NOW, PULL, post};

/// A request is answered by the parameters that `form_urlencoded` finds, the first of each name, checked in the
/// documented order (rest-overview.md sections 1 and 5).
///
/// Bytes that no URL can hold are percent-encoded. `$ADMIN` and `$ALICE` stand for tickets that are valid.
pub fn query(bytes: &[u8]) {
    let query = within_a_url(bytes);
    if query.len() > 16 * 1024 {
        // A head this long is refused below the API.
        return;
    }
    assert_eq!(post(PULL, &query, b"{}").code(), expected(&query), "{query}");
}

/// A query that is signed for a user.
pub(crate) fn signed(user: &str) -> String {
    let ticket = ticket(user);
    format!("sdkappid={APP}&identifier={user}&usersig={ticket}&random=99999999&contenttype=json")
}

fn ticket(user: &str) -> String {
    sign(APP, &secret(), user, NOW, 86_400, None)
}

fn secret() -> Secret {
    Secret::new(KEY.to_owned()).expect("the key is not empty")
}

fn within_a_url(bytes: &[u8]) -> String {
    let mut query = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>' | b'`' | b'\\' | b'^') {
            query.push(char::from(byte));
        } else {
            query.push_str(form_urlencoded::byte_serialize(&[byte]).next().unwrap_or_default());
        }
    }
    for (place, user) in [("$ADMIN", ADMINISTRATOR), ("$ALICE", MEMBER)] {
        if query.contains(place) {
            query = query.replace(place, &ticket(user));
        }
    }
    query
}

/// The code that the documents give for a query with the body `{}`.
fn expected(query: &str) -> u64 {
    let pairs: Vec<(Cow<'_, str>, Cow<'_, str>)> = form_urlencoded::parse(query.as_bytes()).collect();
    let first = |wanted: &str| pairs.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
    let number = |text: &str| {
        // `parse` alone would take a plus sign.
        text.chars().all(|digit| digit.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten()
    };
    let app = first("sdkappid").unwrap_or_default();
    if app.is_empty() {
        return 60_012;
    }
    let Some(app) = number(app) else { return 60_025 };
    if app != APP {
        return 70_020;
    }
    let (user, ticket) = (first("identifier").unwrap_or_default(), first("usersig").unwrap_or_default());
    let random_is_wrong = first("random").is_some_and(|random| number(random).is_none());
    let type_is_wrong = first("contenttype").is_some_and(|content_type| content_type != "json");
    if user.is_empty() || ticket.is_empty() || random_is_wrong || type_is_wrong {
        return 60_025;
    }
    match verify(ticket, APP, user, &[secret()], NOW) {
        Err(UserSigError::Illegal) => 70_003,
        Err(UserSigError::OtherApp) => 70_014,
        Err(UserSigError::OtherUser) => 70_013,
        Err(UserSigError::WrongKey) => 70_009,
        Err(UserSigError::Expired) => 70_001,
        Err(UserSigError::NoKey) => 70_016,
        // The body names no group.
        Ok(_) if matches!(user, ADMINISTRATOR | MEMBER) => 10_004,
        Ok(_) if user.len() > 32 => 60_025,
        Ok(_) => 70_107,
    }
}
