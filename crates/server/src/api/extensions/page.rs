//! The part of a pull that is the same for messages of groups and one-to-one messages (message-extensions.md
//! sections 3 and 4).

use axum::body::Bytes;
use serde::Serialize;
use sidenote_core::event::CallerKind;
use sidenote_core::extension::Seq;
use sidenote_core::query::PullPage;

use crate::api::Call;
use crate::api::extensions::WirePair;
use crate::wire::envelope;
use crate::wire::fields::FieldError;
use crate::wire::json::Object;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Reply<'a> {
    complete_flag: u8,
    latest_seq: u64,
    clear_seq: u64,
    extension_list: Vec<WirePair<'a>>,
}

/// From where on pairs are wanted, and whether tombstones come too (rule 3.8).
pub(super) struct Start {
    pub(super) seq: Seq,
    pub(super) tombstones: bool,
}

/// Reads where to begin.
pub(super) fn start(call: &Call, body: Object<'_>) -> Result<Start, FieldError> {
    // A published client spells it with a small s (message-extensions.md section 3).
    let start = body.optional_integer(["StartSeq", "startSeq"], 0..=u64::MAX)?.unwrap_or(0);
    Ok(Start {
        // Beyond every version there is nothing, so the nearest one that can be named will do.
        seq: Seq::new(start).unwrap_or(Seq::MAX),
        tombstones: start > 0 || call.operator.kind == CallerKind::Connected,
    })
}

/// The same page is pulled many times over, by every member that opens the message. A store that keeps pages in
/// memory keeps the answer with it, and then it costs neither the writing nor a look at any pair.
pub(super) fn render(page: &PullPage) -> Bytes {
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
