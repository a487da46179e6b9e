//! Every row that can be stored can be exported, and comes back.

use proptest::prelude::*;
use sidenote_core::rows::{Row, RowKey};
use sidenote_export::{Header, Reader, VERSION, Writer};

use crate::arbitrary::{an_event, key_and_row};

fn header() -> Header {
    Header { version: VERSION, app: None, batch: 7, made_at: 8 }
}

fn text_of(key: &RowKey, row: &Row) -> Vec<u8> {
    let mut writer = Writer::begin(Vec::new(), header()).unwrap();
    writer.row(key, row).unwrap();
    writer.finish().unwrap().0
}

proptest! {
    #[test]
    fn any_row_survives_its_line(row in prop_oneof![key_and_row(), an_event()]) {
        let text = text_of(&row.0, &row.1);
        prop_assert_eq!(text.split(|byte| *byte == b'\n').count(), 4);
        let mut reader = Reader::begin(&text[..]).unwrap();
        prop_assert_eq!(reader.header(), header());
        prop_assert_eq!(reader.next_row().unwrap(), Some(row));
        prop_assert_eq!(reader.next_row().unwrap(), None);
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_refused(row in key_and_row(), at in any::<prop::sample::Index>()) {
        let text = text_of(&row.0, &row.1);
        let text = &text[..at.index(text.len())];
        let refused = Reader::begin(text).and_then(|mut reader| {
            while reader.next_row()?.is_some() {}
            Ok(())
        });
        prop_assert!(refused.is_err());
    }
}
