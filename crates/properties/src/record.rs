//! What is stored.

use sidenote_store_embedded::schema::{decode_key, decode_row, encode_key, encode_row};

/// A key is exactly the bytes that encode it. What is read as a row is the same row when it is written again, and
/// from then on the same bytes; a file of an older format may hold fewer fields than a row is written with.
///
/// The first byte is the length of the key; the row follows the key.
pub fn record(bytes: &[u8]) {
    let Some((&length, rest)) = bytes.split_first() else { return };
    let (key, row) = rest.split_at(usize::from(length).min(rest.len()));
    let Ok(decoded) = decode_key(key) else { return };
    assert_eq!(encode_key(&decoded), key, "a key has one spelling");
    let Ok(read) = decode_row(&decoded, row) else { return };
    let written = encode_row(&read);
    let again = decode_row(&decoded, &written).expect("what was read as a row is written as one");
    assert_eq!(again, read, "a row survives");
    assert_eq!(encode_row(&again), written, "a row has one spelling once it is written");
}
