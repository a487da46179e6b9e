//! `POST group_get_key_values` (message-extensions.md section 3, rules 3.8, 3.9 and 3.12).

use axum::body::Bytes;
use serde::Serialize;
use sidenote_core::event::CallerKind;
use sidenote_core::extension::Seq;
use sidenote_core::query::{Pull, PullPage};

use crate::api::extensions::{WirePair, require_plan};
use crate::api::parameters::{group_id, message_number, no_topic};
use crate::api::{Call, Fault};
use crate::wire::envelope;
use crate::wire::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    complete_flag: u8,
    latest_seq: u64,
    clear_seq: u64,
    extension_list: Vec<WirePair<'a>>,
}

pub(in crate::api) async fn handle(call: &Call, body: Object<'_>) -> Result<Bytes, Fault> {
    let raw_group_id = body.string("GroupId")?;
    let seq = message_number(body)?;
    // A published client spells it with a small s (message-extensions.md section 3).
    let start = body.optional_integer(["StartSeq", "startSeq"], 0..=u64::MAX)?.unwrap_or(0);
    no_topic(body)?;
    let group = group_id(raw_group_id)?;
    require_plan(call)?;

    let page = call
        .ask(Pull {
            id: call.group(&group),
            seq,
            operator: call.operator.clone(),
            // Beyond every version there is nothing, so the nearest one that can be named will do.
            start: Seq::new(start).unwrap_or(Seq::MAX),
            tombstones: start > 0 || call.operator.kind == CallerKind::Connected,
        })
        .await??;

    Ok(render(&page))
}

/// The same page is pulled many times over, by every member that opens the message. A store that keeps pages in
/// memory keeps the answer with it, and then it costs neither the writing nor a look at any pair.
fn render(page: &PullPage) -> Bytes {
    if let Some(kept) = page.rendering.get::<Bytes>() {
        return kept.clone();
    }
    let answer = Bytes::from(envelope::success_of_about(
        page.rendering_limit(),
        &Reply {
            complete_flag: u8::from(page.complete),
            latest_seq: page.latest.get(),
            clear_seq: page.clear.get(),
            extension_list: page.pairs.iter().map(WirePair::of).collect(),
        },
    ));
    // Escapes can make it longer than the store has counted.
    if answer.len() <= page.rendering_limit() {
        page.rendering.keep(answer.clone());
    }
    answer
}

#[cfg(test)]
mod tests {
    use sidenote_core::extension::{Key, Pair, Value};
    use sidenote_core::query::Rendering;

    use super::*;

    fn page(value: &str) -> PullPage {
        let value = Some(Value::new(value).unwrap());
        let pair = Pair { key: Key::new("key").unwrap(), value, seq: Seq::new(7).unwrap() };
        PullPage {
            pairs: [pair].into(),
            complete: true,
            latest: Seq::new(7).unwrap(),
            clear: Seq::NEVER,
            rendering: Rendering::default(),
        }
    }

    #[test]
    fn an_answer_is_written_once_for_all_clones_of_a_page() {
        let page = page("value");
        let (first, second) = (render(&page), render(&page.clone()));
        assert_eq!((first.as_ptr(), first.len()), (second.as_ptr(), second.len()));
        assert!(first.ends_with(br#""ExtensionList":[{"Key":"key","Value":"value","Seq":7}]}"#));
    }

    #[test]
    fn an_answer_that_escapes_make_longer_than_the_store_counts_is_not_kept() {
        let page = page(&"\u{1}".repeat(1000));
        let answer = render(&page);
        assert!(answer.len() > page.rendering_limit());
        assert!(page.rendering.get::<Bytes>().is_none());
        assert_eq!(render(&page), answer);
    }
}
