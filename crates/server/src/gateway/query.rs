//! The query of a request (rest-overview.md section 1).

use std::borrow::Cow;

use sidenote_core::ids::AppId;

use crate::api::Fault;
use crate::wire::error_code::ErrorCode;

/// The parameters that every call has. Where one is named twice the first counts.
pub(super) struct Query<'a> {
    pub(super) app: AppId,
    pub(super) identifier: Cow<'a, str>,
    pub(super) user_sig: Cow<'a, str>,
    /// Only streams have it: the event after which they go on.
    pub(super) last_event_id: Option<Cow<'a, str>>,
    random: Option<Cow<'a, str>>,
    content_type: Option<Cow<'a, str>>,
}

impl<'a> Query<'a> {
    /// Step 3: reads the parameters, and the SDKAppID as a number.
    pub(super) fn parse(query: &'a str) -> Result<Self, Fault> {
        let (mut app, mut identifier, mut user_sig) = (None, None, None);
        let (mut random, mut content_type, mut last_event_id) = (None, None, None);
        for (name, value) in parameters(query) {
            let place = match &*name {
                "sdkappid" => &mut app,
                "identifier" => &mut identifier,
                "usersig" => &mut user_sig,
                "random" => &mut random,
                "last_event_id" => &mut last_event_id,
                "contenttype" => &mut content_type,
                _ => continue,
            };
            place.get_or_insert(value);
        }
        let app = app.filter(|app| !app.is_empty()).ok_or(Fault::Plain(ErrorCode::SdkAppIdMissing))?;
        let app = number(&app).ok_or_else(|| refuse("sdkappid must be a decimal number"))?;
        Ok(Self {
            app: AppId::new(app),
            identifier: identifier.unwrap_or_default(),
            user_sig: user_sig.unwrap_or_default(),
            last_event_id,
            random,
            content_type,
        })
    }

    /// Step 4: the others. `random` and `contenttype` may be absent, as older clients leave them out.
    pub(super) fn check(&self) -> Result<(), Fault> {
        if self.identifier.is_empty() {
            return Err(refuse("identifier is missing from the query"));
        }
        if self.user_sig.is_empty() {
            return Err(refuse("usersig is missing from the query"));
        }
        if self.random.as_ref().is_some_and(|random| number(random).is_none()) {
            return Err(refuse("random must be a decimal number from 0 to 4294967295"));
        }
        if self.content_type.as_ref().is_some_and(|content_type| content_type != "json") {
            return Err(refuse("contenttype must be json"));
        }
        Ok(())
    }
}

/// Names and values in order, decoded.
fn parameters(query: &str) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    // A ticket is made of characters that stand for themselves, so most queries hold nothing to decode, and
    // decoding without need would cost five times as much as all the rest here. They are counted, because
    // counting has no early end and so goes over many bytes at a time.
    let is_plain = query.bytes().filter(|byte| matches!(byte, b'%' | b'+')).count() == 0;
    query.split('&').filter(|pair| !pair.is_empty()).map(move |pair| {
        if is_plain {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (Cow::Borrowed(name), Cow::Borrowed(value))
        } else {
            form_urlencoded::parse(pair.as_bytes()).next().unwrap_or_default()
        }
    })
}

fn number(text: &str) -> Option<u32> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

fn refuse(why: &str) -> Fault {
    Fault::Code(ErrorCode::BadQuery, why.to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn plain_queries_are_read_as_encoded_ones_are(query in "([a-z=&*_-]|[%+][0-9a-f]{0,2}|\\PC){0,24}") {
            for query in [query.replace(['%', '+'], ""), query] {
                let expected: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
                prop_assert_eq!(parameters(&query).collect::<Vec<_>>(), expected);
            }
        }
    }
}
