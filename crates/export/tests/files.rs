//! Files that are no exports, or no longer, and what is said about them.
#![expect(clippy::unwrap_used, reason = "a test may fail by panicking, and so may the functions it calls")]

use sidenote_export::{ExportError, Reader};

const FIRST: &str = r#"{"sidenote_export":{"version":1}}"#;
const ANN: &str =
    r#"{"account":{"app":1,"user":"ann","tiny_id":"7","nick":"","face_url":"","imported_at":5}}"#;
const BOB: &str =
    r#"{"account":{"app":1,"user":"bob","tiny_id":"8","nick":"","face_url":"","imported_at":5}}"#;

fn end(rows: u64) -> String {
    format!(r#"{{"end":{{"rows":{rows}}}}}"#)
}

/// Reads a file of these lines to its end; how many rows it has.
fn read(lines: &[&str]) -> Result<usize, String> {
    read_bytes(format!("{}\n", lines.join("\n")).as_bytes())
}

fn read_bytes(bytes: &[u8]) -> Result<usize, String> {
    let read = || -> Result<usize, ExportError> {
        let mut reader = Reader::begin(bytes)?;
        let mut rows = 0;
        while reader.next_row()?.is_some() {
            rows += 1;
        }
        Ok(rows)
    };
    read().map_err(|error| error.to_string())
}

#[track_caller]
fn refused(lines: &[&str], says: &str) {
    let said = read(lines).unwrap_err();
    assert!(said.contains(says), "{said}");
}

#[test]
fn a_file_written_by_hand_is_read() {
    assert_eq!(read(&[FIRST, ANN, BOB, &end(2)]), Ok(2));
    assert_eq!(read(&[FIRST, &end(0)]), Ok(0));
}

#[test]
fn what_is_no_export_is_told_apart() {
    for first in [
        "",
        "{}",
        "null",
        "[1]",
        "sidenote backup",
        r#"{"sidenote_export":{}}"#,
        ANN,
        r#"{"sidenote_export":{"version":0}}"#,
    ] {
        refused(&[first, &end(0)], "line 1 is not that of an export");
    }
    assert!(read_bytes(b"").unwrap_err().contains("line 1 is not that of an export"));
    refused(
        &[r#"{"sidenote_export":{"version":9,"colour":"red"}}"#],
        "has version 9, and this release reads versions up to 1; use a newer release",
    );
}

#[test]
fn a_file_without_its_end_is_refused() {
    refused(&[FIRST, ANN], "cut off after line 2");
    assert!(read_bytes(format!("{FIRST}\n{ANN}").as_bytes()).unwrap_err().contains("cut off after line 1"));
    refused(&[FIRST, ANN, &end(2)], "line 3: says that 2 rows come before it, but there are 1");
    refused(&[FIRST, &end(0), ANN], "line 3: something follows the end");
}

#[test]
fn a_line_that_is_wrong_is_named_by_its_number() {
    let wrong = |line: &str, says: &str| refused(&[FIRST, ANN, line, &end(2)], &format!("line 3: {says}"));
    wrong("", "EOF while parsing");
    wrong("{", "EOF while parsing");
    wrong(r#"{"account":{"app":1}}"#, "missing field `user`");
    wrong(r#"{"acount":{}}"#, "unknown variant `acount`");
    wrong(&BOB.replace("\"nick\"", "\"nack\""), "unknown field `nack`");
    wrong(&BOB.replace("\"nick\":\"\"", "\"user\":\"cem\",\"nick\":\"\""), "duplicate field `user`");
    wrong(&BOB.replace("\"app\":1", "\"app\":\"1\""), "invalid type: string");
    wrong(&BOB.replace("\"app\":1", "\"app\":1.0"), "invalid type: floating point");
    wrong(&BOB.replace("\"app\":1", "\"app\":4294967296"), "invalid value: integer `4294967296`");
    wrong(&BOB.replace("bob", ""), "`user` must not be empty");
    wrong(&BOB.replace("bob", "b\\nb"), "`user` must not contain control characters");
    wrong(&BOB.replace("bob", &"b".repeat(33)), "`user` is 33 bytes long, the limit is 32");
    wrong(&BOB.replace("\"8\"", "8"), "invalid type: integer `8`, expected a text of 1 to 19 digits");
    wrong(&BOB.replace("\"8\"", "\"08\""), "expected a text of 1 to 19 digits");
    wrong(&BOB.replace("\"8\"", "\"9223372036854775808\""), "expected a text of 1 to 19 digits");
    wrong(&format!("{BOB} {BOB}"), "trailing characters");
    wrong(ANN, "is there twice");
    wrong(FIRST, "the file begins once more");
    let pair = |key: &str, value: &str, seq: u64| {
        format!(r#"{{"pair":{{"incarnation":"1","message":1,"key":{key:?},"value":{value:?},"seq":{seq}}}}}"#)
    };
    wrong(&pair("", "v", 1), "`key` must not be empty");
    wrong(&pair(&"k".repeat(513), "v", 1), "`key` is 513 bytes long, the limit is 512");
    wrong(&pair("k", "", 1), "`value` must not be empty");
    wrong(&pair("k", "v", 1 << 53), "`seq` is out of range");
    wrong(&pair("k", "v", 1).replace("\"message\":1", "\"message\":0"), "`message` is out of range");
    wrong(
        &pair("k", "v", 1).replace("\"message\":1", "\"message\":\"1_2\""),
        "`message` must be three numbers",
    );
    refused(&[FIRST, BOB, ANN, &end(2)], "line 3: is out of order");
    refused(
        &[r#"{"sidenote_export":{"version":1,"app":2}}"#, ANN, &end(1)],
        "line 2: belongs to app 1, but the file is that of app 2",
    );
}

#[test]
fn what_is_not_utf_8_is_refused_and_so_is_a_changed_file() {
    let mut bytes = format!("{FIRST}\n{ANN}\n{}\n", end(1)).into_bytes();
    bytes[50] = 0xff;
    assert!(read_bytes(&bytes).unwrap_err().contains("line 2: is not UTF-8"));

    let summed = r#"{"end":{"rows":1,"checksum":"0123456789abcdef"}}"#;
    refused(&[FIRST, ANN, summed], "line 3: the checksum does not fit: the file was changed");
}

#[test]
fn an_endless_line_costs_a_bounded_amount_of_memory() {
    #[derive(Debug)]
    struct Endless;
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            buffer.fill(b' ');
            Ok(buffer.len())
        }
    }
    let refused = Reader::begin(std::io::BufReader::with_capacity(1 << 20, Endless)).unwrap_err();
    assert!(matches!(refused, ExportError::Foreign), "{refused}");
}

#[test]
fn a_line_of_nonsense_costs_no_more_memory_than_its_bytes() {
    // Where something is one of two things, it must not be taken apart before that is known: `0,` has two bytes, and a
    // value of JSON several dozen. So it is refused where it goes wrong, and not at its end.
    let zeros = "0,".repeat(1000);
    for (line, column) in [
        (format!(r#"{{"recent":{{"incarnation":"1","message":[{zeros}0]}}}}"#), 45),
        (format!(r#"{{"direct":{{"app":1,"conversation":[{zeros}0]}}}}"#), 45),
        (format!(r#"{{"direct":{{"app":1,"conversation":["a","b",{zeros}0]}}}}"#), 50),
    ] {
        let said = read(&[FIRST, &line, &end(1)]).unwrap_err();
        let told = said.rsplit("(column ").next().unwrap().trim_end_matches(')');
        assert!(told.parse::<usize>().unwrap() < column, "{said}");
    }
    // The first line is short in every version.
    let first = format!(r#"{{"sidenote_export":{{"version":9,"more":[{zeros}0]}}}}"#);
    refused(&[&first, &end(0)], "has version 9");
    let first = format!(r#"{{"sidenote_export":{{"version":9,"more":[{}0]}}}}"#, zeros.repeat(40));
    refused(&[&first, &end(0)], "line 1 is not that of an export");
}
