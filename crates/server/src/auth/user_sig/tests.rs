//! The sheet's vectors and negative cases (usersig.md section 5), then what a hostile caller may try.

use std::io::Write as _;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use flate2::Compression;
use flate2::write::ZlibEncoder;
use proptest::prelude::*;

use super::*;

const APP: u32 = 1_400_000_001;
const ISSUED: u64 = 1_700_000_000;
const KEY: &str = "a1b2c3d4e5f60718293a4b5c6d7e8f900112233445566778899aabbccddeeff0";

/// V1: `administrator` for 180 days; A by the Node package, B by the Python package.
const V1_A: &str = "eJyrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwokpuZl5mcUlRYkl*UVQBcUp2YkFBZkpSlaGJgYQYAiRKcnMTVWyMjSHihpARFMrCjKLQOKmpqZGcNHizHQlKyVXC5dwnyCzpIh8HzftrNxCo7SQ7ER9ba*sdF*-ckd9P2fnYsvQ1CTfgCxXW6VaACW0M-k_";
const V1_B: &str = "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkElNyM-Myi0uKEkvyi2BKilOyEwsKMlOACgxNDCDAECqXWlGQWZQKkjE1NTUCSkDFSzJzwaLmUPUw8eLMdJA9rhYu4T5BZkkR*T5u2lm5hUZpIdmJ*tpeWem*fuWO*n7OzsWWoalJvgFZrrZKtQC3wjVZ";
const V1_JSON: &str = r#"{"TLS.ver":"2.0","TLS.identifier":"administrator","TLS.sdkappid":1400000001,"TLS.time":1700000000,"TLS.expire":15552000,"TLS.sig":"E8DWLR6bXoLF+jmq2fTka/+JjgMNwA/NCCs9UebMPjE="}"#;
/// V2: `alice` for a day.
const V2_A: &str = "eJyrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBwok5mcmpUInilOzEgoLMFCUrQxMDCDCEyJRk5qYqWRmaQ0UNIKKpFQWZRalKVhZmJjCh4sx0JSul8MISM9*IvIj0iIJUI39z4wKLJLOcslQvzxDnVBNHNzdT7XD9YOM0Vxe-bFulWgCAQC*8";
const V2_B: &str = "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkEnMyk1NhUsUp2YkFBZkpQAlDEwMIMITKpVYUZBalAmUszIBSUMGSzFyQkKE5VDFMvDgzHWR4eGGJmW9EXkR6REGqkb*5cYFFkllOWaqXZ4hzqomjm5updrh*sHGaq4tftq1SLQDyHDEc";
const V2_SIG: &str = "Wqt6MXnXgXpe2O73p8b6lveJITCe4AFF5+W/S3fEDNk=";
/// V3: `alice` for a day, userbuf `abc`.
const V3_A: &str = "eJw1zM0OgjAQBOB32auGFkP8aeLBk4C9GDEEbyiLLgjWUtRgfHcTCnObb5L5QiQPzgs1CJg5HKZ9pwxrQzn1nN7pgsPQZGWqFGUgXI-buHYxVCEIdzEot4ofRRpBLOfeSG2D*tzmICCJw2L8pSsIiIujSg073Xymy8deMsOeGwq7tyz9REX1tpuwVRBXfBes4fcHyuA3Jw__";
const V3_B: &str = "eJyrVgrxCdYrSy1SslJQMtIzUNJRAItkpqTmlWSmZUIkEnMyk1NhUsUp2YkFBZkpQAlDEwMIMITKpVYUZBalAmUszIBSUMGSzFyQkKE5VDFMvLQ4tSipNA1kQWS4Vxbc-Mx0kFB4VmhBYol*VIaHflF2fqCPfol*oWOmV1W5T7ZHZEFInnuVtr6lZ3iugbenrVItALduOMc_";
const V3_SIG: &str = "WjUpat/ZhH/rkoQL/t/qAiJzwLkHYpTnGz+/9IWm0KI=";
/// V4: `测试用户` for an hour; the sheet has it from the Node package only.
const V4_A: &str = "eJyrVgrxCdYrSy1SslIy0jNQ0gHzM1NS80oy0zLBws*2dr9YP-X5lBXPOrZD5YtTshMLCjJTlKwMTQwgwBAiU5KZm6pkZWgOFTWAiKZWFGQWpSpZGZvBRIoz05WslPRNLRy1g8yqzPIDM1J8oyoCUvMywnJ9fS3TTY3SvROLnXOiQkLSnPWdXEJtlWoB-ZM2XA__";
const V4_SIG: &str = "/58A+R6z6oQhdMZxPenhVmMM9g52gKasClZTTfC/BDU=";

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned()).unwrap()
}

/// Verifies in the second of issue, as the app of the vectors.
fn check(token: &str, identifier: &str) -> Result<Verified, UserSigError> {
    verify(token, APP, identifier, &[secret(KEY)], ISSUED)
}

fn alice_at(now: u64) -> Result<Verified, UserSigError> {
    verify(V2_A, APP, "alice", &[secret(KEY)], now)
}

fn compress(plain: &[u8], level: Compression) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), level);
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// The outermost layer alone, written as the sheet tells it: base64, then three replacements.
fn encode(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes).replace('+', "*").replace('/', "-").replace('=', "_")
}

fn decode(token: &str) -> Vec<u8> {
    BASE64_STANDARD.decode(token.replace('*', "+").replace('-', "/").replace('_', "=")).unwrap()
}

fn token_of(json: &str) -> String {
    encode(&compress(json.as_bytes(), Compression::default()))
}

fn json_of(token: &str) -> String {
    let mut json = String::new();
    std::io::Read::read_to_string(&mut flate2::read::ZlibDecoder::new(&*decode(token)), &mut json).unwrap();
    json
}

/// A signature with the vectors' key, for texts that `sign` would not make.
fn sig(content: &str) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(KEY.as_bytes()).unwrap().chain_update(content);
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

/// Alice's token with the three integers spelt as given in JSON, and signed as spelt in the text.
fn alice_with(app: &str, time: &str, expire: &str) -> String {
    let [bare_app, bare_time, bare_expire] = [app, time, expire].map(|json| json.trim_matches('"'));
    let sig = sig(&format!(
        "TLS.identifier:alice\nTLS.sdkappid:{bare_app}\nTLS.time:{bare_time}\nTLS.expire:{bare_expire}\n"
    ));
    token_of(&format!(
        r#"{{"TLS.ver":"2.0","TLS.identifier":"alice","TLS.sdkappid":{app},"TLS.time":{time},"TLS.expire":{expire},"TLS.sig":"{sig}"}}"#
    ))
}

// Section 5: the vectors.

#[test]
fn v1_is_accepted_from_both_packages() {
    for token in [V1_A, V1_B] {
        assert_eq!(check(token, "administrator"), Ok(Verified { expires_at: ISSUED + 15_552_000, key: 0 }));
    }
}

#[test]
fn v2_is_accepted_from_both_packages() {
    for token in [V2_A, V2_B] {
        assert_eq!(check(token, "alice"), Ok(Verified { expires_at: ISSUED + 86_400, key: 0 }));
    }
}

#[test]
fn v3_with_a_userbuf_is_accepted_from_both_packages() {
    for token in [V3_A, V3_B] {
        assert_eq!(check(token, "alice"), Ok(Verified { expires_at: ISSUED + 86_400, key: 0 }));
    }
}

#[test]
fn v4_beyond_ascii_is_accepted() {
    assert_eq!(check(V4_A, "测试用户"), Ok(Verified { expires_at: ISSUED + 3600, key: 0 }));
}

#[test]
fn v4_is_accepted_with_the_escapes_and_blanks_of_the_python_package() {
    let token = token_of(&format!(
        r#"{{"TLS.ver": "2.0", "TLS.identifier": "\u6d4b\u8bd5\u7528\u6237", "TLS.sdkappid": 1400000001, "TLS.expire": 3600, "TLS.time": 1700000000, "TLS.sig": "{V4_SIG}"}}"#
    ));
    assert_eq!(check(&token, "测试用户"), Ok(Verified { expires_at: ISSUED + 3600, key: 0 }));
}

#[test]
fn sign_gives_the_signatures_of_all_vectors() {
    let key = secret(KEY);
    assert_eq!(json_of(&sign(APP, &key, "administrator", ISSUED, 15_552_000, None)), V1_JSON);
    for (identifier, expire, userbuf, sig) in [
        ("alice", 86_400, None, V2_SIG),
        ("alice", 86_400, Some(&b"abc"[..]), V3_SIG),
        ("测试用户", 3600, None, V4_SIG),
    ] {
        let json = json_of(&sign(APP, &key, identifier, ISSUED, expire, userbuf));
        assert!(json.ends_with(&format!(r#","TLS.sig":"{sig}"}}"#)), "{json}");
    }
    assert!(
        json_of(&sign(APP, &key, "alice", ISSUED, 86_400, Some(b"abc"))).contains(r#""TLS.userbuf":"YWJj""#)
    );
}

// Section 5: the negative cases, derived from V2.

#[test]
fn a_cut_token_is_illegal() {
    assert_eq!(check(&V2_A[..V2_A.len() - 20], "alice"), Err(UserSigError::Illegal));
}

#[test]
fn a_token_of_another_app_is_refused() {
    let refused = verify(V2_A, 1_400_000_002, "alice", &[secret(KEY)], ISSUED);
    assert_eq!(refused, Err(UserSigError::OtherApp));
}

#[test]
fn a_token_of_another_user_is_refused() {
    for other in ["bob", "Alice", "alice ", "alic", ""] {
        assert_eq!(check(V2_A, other), Err(UserSigError::OtherUser), "{other:?}");
    }
}

#[test]
fn a_token_signed_with_another_key_is_refused() {
    // The last one is the key with its hexadecimal digits in the other case: the text is the key.
    for other in ["another key", &KEY[1..], &KEY.to_uppercase()] {
        let refused = verify(V2_A, APP, "alice", &[secret(other)], ISSUED);
        assert_eq!(refused, Err(UserSigError::WrongKey), "{other}");
    }
}

#[test]
fn the_last_second_of_validity_still_counts() {
    assert_eq!(alice_at(1_700_086_400), Ok(Verified { expires_at: 1_700_086_400, key: 0 }));
    assert_eq!(alice_at(1_700_086_401), Err(UserSigError::Expired));
    assert_eq!(alice_at(u64::MAX), Err(UserSigError::Expired));
}

// Section 3: what the sheet recommends where the real service is not known.

#[test]
fn a_token_from_the_future_is_accepted() {
    assert!(alice_at(0).is_ok());
}

#[test]
fn any_of_several_keys_may_have_signed() {
    let keys = [secret("old"), secret(KEY), secret("new")];
    assert_eq!(verify(V2_A, APP, "alice", &keys, ISSUED).map(|verified| verified.key), Ok(1));
    assert_eq!(verify(V2_A, APP, "alice", &keys[2..], ISSUED), Err(UserSigError::WrongKey));
}

#[test]
fn an_app_without_a_key_accepts_nothing() {
    for token in [V2_A, "", "garbage"] {
        assert_eq!(verify(token, APP, "alice", &[], ISSUED), Err(UserSigError::NoKey));
    }
}

#[test]
fn the_first_of_several_faults_is_answered() {
    let wrong_key = [secret("another key")];
    let (late, other_app) = (u64::MAX, APP + 1);
    assert_eq!(verify("?", other_app, "bob", &wrong_key, late), Err(UserSigError::Illegal));
    assert_eq!(verify(V2_A, other_app, "bob", &wrong_key, late), Err(UserSigError::OtherApp));
    assert_eq!(verify(V2_A, APP, "bob", &wrong_key, late), Err(UserSigError::OtherUser));
    assert_eq!(verify(V2_A, APP, "alice", &wrong_key, late), Err(UserSigError::WrongKey));
    assert_eq!(verify(V2_A, APP, "alice", &[secret(KEY)], late), Err(UserSigError::Expired));
}

#[test]
fn integers_may_be_decimal_strings() {
    let token = alice_with(r#""1400000001""#, r#""1700000000""#, r#""86400""#);
    assert_eq!(check(&token, "alice"), Ok(Verified { expires_at: ISSUED + 86_400, key: 0 }));
}

#[test]
fn a_validity_of_zero_or_less_has_expired() {
    for expire in ["0", "-1", "-0", r#""-86400""#, "-99999999999999999999999999"] {
        let token = alice_with("1400000001", "1700000000", expire);
        for now in [0, ISSUED] {
            let refused = verify(&token, APP, "alice", &[secret(KEY)], now);
            assert_eq!(refused, Err(UserSigError::Expired), "{expire}");
        }
    }
}

#[test]
fn huge_times_saturate_instead_of_overflowing() {
    let huge = "9".repeat(60);
    for (time, expire, end) in [
        (&*u64::MAX.to_string(), "1", u64::MAX),
        ("1", &*u64::MAX.to_string(), u64::MAX),
        (&huge, &huge, u64::MAX),
        ("1", "18446744073709551613", u64::MAX - 1),
        ("-100", "101", 1),
    ] {
        let token = alice_with("1400000001", time, expire);
        assert_eq!(
            verify(&token, APP, "alice", &[secret(KEY)], 0),
            Ok(Verified { expires_at: end, key: 0 }),
            "{time}"
        );
    }
    let before_the_epoch = alice_with("1400000001", "-100", "99");
    assert_eq!(verify(&before_the_epoch, APP, "alice", &[secret(KEY)], 0), Err(UserSigError::Expired));
}

#[test]
fn an_app_id_beyond_its_range_is_another_app() {
    // The first one is the app's id plus 2^32: it must not be cut down to it.
    for app in ["5694967297", "-1400000001", "99999999999999999999999999999999"] {
        let token = alice_with(app, "1700000000", "86400");
        assert_eq!(check(&token, "alice"), Err(UserSigError::OtherApp), "{app}");
    }
}

#[test]
fn integers_that_are_not_plain_are_illegal() {
    for odd in [
        "1e9",
        "1700000000.0",
        "null",
        "true",
        "[1700000000]",
        "{}",
        r#""""#,
        r#""+1""#,
        r#"" 1""#,
        r#""01""#,
    ] {
        for token in [
            alice_with(odd, "1700000000", "86400"),
            alice_with("1400000001", odd, "86400"),
            alice_with("1400000001", "1700000000", odd),
        ] {
            assert_eq!(check(&token, "alice"), Err(UserSigError::Illegal), "{odd}");
        }
    }
}

#[test]
fn every_member_must_be_there_once_and_be_of_its_kind() {
    let members = [
        ("TLS.ver", r#""2.0""#.to_owned()),
        ("TLS.identifier", r#""alice""#.to_owned()),
        ("TLS.sdkappid", "1400000001".to_owned()),
        ("TLS.time", "1700000000".to_owned()),
        ("TLS.expire", "86400".to_owned()),
        ("TLS.userbuf", r#""YWJj""#.to_owned()),
        ("TLS.sig", format!("{V3_SIG:?}")),
    ];
    let object = |members: &[(&str, String)]| {
        let members: Vec<_> = members.iter().map(|(name, value)| format!("{name:?}:{value}")).collect();
        token_of(&format!("{{{}}}", members.join(",")))
    };
    assert!(check(&object(&members), "alice").is_ok());

    for (at, (name, value)) in members.iter().enumerate() {
        let mut missing = members.to_vec();
        missing.remove(at);
        // Without the userbuf the object is complete, but it is not what was signed.
        let expected = if *name == "TLS.userbuf" { UserSigError::WrongKey } else { UserSigError::Illegal };
        assert_eq!(check(&object(&missing), "alice"), Err(expected), "{name} missing");

        let mut twice = members.to_vec();
        twice.push((name, value.clone()));
        assert_eq!(check(&object(&twice), "alice"), Err(UserSigError::Illegal), "{name} twice");

        for kind in ["null", "true", "[]", "{}", "1.5", r#"{"2.0":null}"#] {
            let mut mistyped = members.to_vec();
            mistyped[at].1 = kind.to_owned();
            assert_eq!(check(&object(&mistyped), "alice"), Err(UserSigError::Illegal), "{name}: {kind}");
        }
    }
    for (at, text) in [(0, "2"), (0, "1.0"), (0, ""), (5, "YWJj\\n"), (5, "YWJ"), (5, "?"), (6, "not base64")]
    {
        let mut wrong = members.to_vec();
        wrong[at].1 = format!("\"{text}\"");
        assert_eq!(check(&object(&wrong), "alice"), Err(UserSigError::Illegal), "{text}");
    }
}

#[test]
fn a_member_spelt_with_escapes_is_the_same_member() {
    let json = json_of(V2_A);
    let twice = json.replacen('{', r#"{"TLS.tim\u0065":1700000000,"#, 1);
    assert_eq!(check(&token_of(&twice), "alice"), Err(UserSigError::Illegal));
    let once = json.replace("TLS.time", r"TLS.tim\u0065");
    assert!(check(&token_of(&once), "alice").is_ok());
}

#[test]
fn members_that_nobody_knows_are_ignored() {
    let json = json_of(V2_A).replacen('{', r#"{"TLS.account_type":"0","x":[{}],"#, 1);
    assert!(check(&token_of(&json), "alice").is_ok());
}

#[test]
fn a_signature_of_the_wrong_length_is_a_wrong_signature() {
    for short in ["", "Wqt6MXnXgXpe2O73p8b6lg==", "Wqt6MXnXgXpe2O73p8b6lveJITCe4AFF5+W/S3fEDNkA"] {
        let json = json_of(V2_A).replace(V2_SIG, short);
        assert_eq!(check(&token_of(&json), "alice"), Err(UserSigError::WrongKey), "{short}");
    }
}

// What a hostile caller may try.

#[test]
fn what_is_no_token_is_illegal() {
    let json = json_of(V2_A);
    let array = format!(r#"["2.0","alice",1400000001,1700000000,86400,"YWJj","{V3_SIG}"]"#);
    let lone_surrogate = json.replace("alice", r"\ud83d");
    for (what, token) in [
        ("nothing", String::new()),
        ("a blank", " ".to_owned()),
        ("padding", "____".to_owned()),
        ("plain base64", V1_A.replace('*', "+")),
        ("percent signs", V1_A.replace('*', "%2A")),
        ("a blank in front", format!(" {V2_A}")),
        ("a line feed behind", format!("{V2_A}\n")),
        ("no padding", V3_A.trim_end_matches('_').to_owned()),
        ("not ASCII", "测试用户".to_owned()),
        ("the JSON itself", json.clone()),
        ("base64 of the JSON", encode(json.as_bytes())),
        ("an empty zlib stream", token_of("")),
        ("an empty object", token_of("{}")),
        ("null", token_of("null")),
        ("a text", token_of(r#""2.0""#)),
        ("an array of the values", token_of(&array)),
        ("two objects", token_of(&format!("{json}{json}"))),
        ("half an object", token_of(&json[..json.len() - 1])),
        ("a lone surrogate", token_of(&lone_surrogate)),
        ("deep nesting", token_of(&format!("{{\"x\":{}", "[".repeat(4000)))),
    ] {
        assert_eq!(check(&token, "alice"), Err(UserSigError::Illegal), "{what}");
    }
}

#[test]
fn bytes_that_are_not_utf8_are_illegal() {
    let json = json_of(V2_A).replace("alice", "????").into_bytes();
    let json: Vec<u8> = json.into_iter().map(|byte| if byte == b'?' { 0xFF } else { byte }).collect();
    let token = encode(&compress(&json, Compression::default()));
    assert_eq!(check(&token, "alice"), Err(UserSigError::Illegal));
}

#[test]
fn nothing_may_follow_the_zlib_stream_and_nothing_may_lack() {
    let whole = decode(V2_A);
    for tail in [&b"\0"[..], b"\n", &whole] {
        let longer = [&whole, tail].concat();
        assert_eq!(check(&encode(&longer), "alice"), Err(UserSigError::Illegal));
    }
    for length in 0..whole.len() {
        assert_eq!(check(&encode(&whole[..length]), "alice"), Err(UserSigError::Illegal), "{length} bytes");
    }
}

#[test]
fn a_stream_with_a_wrong_checksum_is_illegal() {
    let mut bytes = decode(V2_A);
    *bytes.last_mut().unwrap() ^= 1;
    assert_eq!(check(&encode(&bytes), "alice"), Err(UserSigError::Illegal));
}

#[test]
fn a_bomb_is_given_up() {
    // A thousand to one: within the limit of the token, far beyond the limit of the inflated text.
    let token = encode(&compress(&vec![b' '; 1024 * 1024], Compression::best()));
    assert!(token.len() <= MAX_TOKEN_BYTES);
    assert_eq!(check(&token, "alice"), Err(UserSigError::Illegal));
}

#[test]
fn the_inflated_text_may_have_4096_bytes_and_no_more() {
    let padded = |bytes: usize| token_of(&format!("{:<bytes$}", json_of(V2_A)));
    assert!(check(&padded(MAX_INFLATED_BYTES), "alice").is_ok());
    assert_eq!(check(&padded(MAX_INFLATED_BYTES + 1), "alice"), Err(UserSigError::Illegal));
}

#[test]
fn the_token_may_have_2048_bytes_and_no_more() {
    // Stored, not compressed: the zlib frame adds 11 bytes to the text.
    let stored = |bytes: usize| {
        encode(&compress(format!("{:<bytes$}", json_of(V2_A)).as_bytes(), Compression::none()))
    };
    let (longest, longer) = (stored(1525), stored(1526));
    assert_eq!((longest.len(), longer.len()), (2048, 2052));
    assert!(check(&longest, "alice").is_ok());
    assert_eq!(check(&longer, "alice"), Err(UserSigError::Illegal));
}

#[test]
fn a_line_feed_in_an_identifier_forges_no_other_token() {
    // An app may let its users choose their identifiers. One of them chooses this, so that the
    // signed text begins like that of a token for `administrator`.
    let chosen =
        format!("administrator\nTLS.sdkappid:{APP}\nTLS.time:1\nTLS.expire:9000000000\nTLS.userbuf:x");
    let signed = sign(APP, &secret(KEY), &chosen, ISSUED, 60, None);
    assert_eq!(check(&signed, &chosen), Err(UserSigError::Illegal));

    let sig = json_of(&signed).split(r#""TLS.sig":""#).nth(1).unwrap().trim_end_matches("\"}").to_owned();
    let userbuf = format!("x\nTLS.sdkappid:{APP}\nTLS.time:{ISSUED}\nTLS.expire:60");
    let forged_text = format!(
        "TLS.identifier:administrator\nTLS.sdkappid:{APP}\nTLS.time:1\nTLS.expire:9000000000\nTLS.userbuf:{userbuf}\n"
    );
    assert_eq!(self::sig(&forged_text), sig, "the signature fits the forged text");
    let forged = token_of(&format!(
        r#"{{"TLS.ver":"2.0","TLS.identifier":"administrator","TLS.sdkappid":{APP},"TLS.time":1,"TLS.expire":9000000000,"TLS.userbuf":{userbuf:?},"TLS.sig":"{sig}"}}"#
    ));
    assert_eq!(check(&forged, "administrator"), Err(UserSigError::Illegal));
}

#[test]
fn identifiers_with_control_characters_are_illegal() {
    for odd in ["a\nb", "a\rb", "a\0b", "\t", "a\u{7f}", "a\u{85}b"] {
        let token = sign(APP, &secret(KEY), odd, ISSUED, 60, None);
        assert_eq!(check(&token, odd), Err(UserSigError::Illegal), "{odd:?}");
        assert_eq!(check(&token, "alice"), Err(UserSigError::Illegal), "{odd:?} in the token");
        assert_eq!(check(V2_A, odd), Err(UserSigError::Illegal), "{odd:?} in the request");
    }
}

/// The claim: a changed token is either refused, or it says exactly what the original says. It is
/// not that every change is refused, because compressed data can be spelt in several ways.
fn assert_refused_or_the_same(changed: &str, original: &str) {
    if let Ok(verified) = check(changed, "alice") {
        let [changed, original] = [changed, original].map(|token| Ticket::from_token(token).unwrap());
        assert_eq!(changed.content(), original.content());
        assert_eq!(changed.signature, original.signature);
        assert_eq!(Some(verified.expires_at), original.expires_at());
    }
    for other in ["bob", "administrator"] {
        assert!(check(changed, other).is_err(), "{changed}");
    }
}

#[test]
fn changing_any_character_of_a_token_gains_nothing() {
    let alphabet: Vec<char> =
        ('A'..='Z').chain('a'..='z').chain('0'..='9').chain("*-_+/=%\n\u{e9}".chars()).collect();
    for original in [V2_A, V3_B] {
        let mut refused = 0_usize;
        for at in 0..original.len() {
            for &symbol in alphabet.iter().filter(|&&symbol| !original[at..].starts_with(symbol)) {
                let changed = format!("{}{symbol}{}", &original[..at], &original[at + 1..]);
                assert_refused_or_the_same(&changed, original);
                refused += usize::from(check(&changed, "alice").is_err());
            }
        }
        // Nearly all of them are refused; the loop would be empty of meaning otherwise.
        assert!(refused > original.len() * 60, "{refused}");
    }
}

#[test]
fn changing_any_bit_of_the_json_gains_nothing() {
    for original in [V2_B, V3_A] {
        let json = json_of(original).into_bytes();
        for bit in 0..json.len() * 8 {
            let mut changed = json.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_refused_or_the_same(&encode(&compress(&changed, Compression::fast())), original);
        }
    }
}

#[test]
fn every_error_says_what_is_wrong_and_what_to_do() {
    for (error, word) in [
        (UserSigError::Illegal, "decoded"),
        (UserSigError::OtherApp, "another app"),
        (UserSigError::OtherUser, "another user"),
        (UserSigError::WrongKey, "not signed with a key of this app"),
        (UserSigError::Expired, "expired"),
        (UserSigError::NoKey, "no secret key"),
    ] {
        let text = error.to_string();
        assert!(text.contains(word), "{text}");
        // Each says what is wrong, and after a semicolon what to do.
        assert_eq!(text.split("; ").count(), 2, "{text}");
    }
}

proptest! {
    #[test]
    fn what_is_signed_verifies(
        app in any::<u32>(),
        key in ".{1,80}",
        identifier in "\\PC{0,40}",
        issued_at in any::<u64>(),
        expire in 1..=u64::MAX,
        userbuf in proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200)),
    ) {
        let token = sign(app, &secret(&key), &identifier, issued_at, expire, userbuf.as_deref());
        let keys = [secret(&key)];
        let expires_at = issued_at.saturating_add(expire);
        prop_assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*-_".contains(&byte)));
        for now in [0, issued_at, expires_at] {
            prop_assert_eq!(verify(&token, app, &identifier, &keys, now), Ok(Verified { expires_at, key: 0 }));
        }
        if let Some(later) = expires_at.checked_add(1) {
            prop_assert_eq!(verify(&token, app, &identifier, &keys, later), Err(UserSigError::Expired));
        }
        prop_assert_eq!(
            verify(&token, app ^ 1, &identifier, &keys, issued_at),
            Err(UserSigError::OtherApp)
        );
        let (other_user, other_key) = (format!("{identifier}x"), secret(&format!("{key}x")));
        prop_assert_eq!(verify(&token, app, &other_user, &keys, issued_at), Err(UserSigError::OtherUser));
        prop_assert_eq!(
            verify(&token, app, &identifier, &[other_key], issued_at),
            Err(UserSigError::WrongKey)
        );
    }

    #[test]
    fn garbage_is_illegal_at_every_layer(
        text in any::<String>(),
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
    ) {
        for token in [text.clone(), encode(&bytes), encode(&compress(&bytes, Compression::fast())), token_of(&text)] {
            prop_assert_eq!(check(&token, "alice"), Err(UserSigError::Illegal));
        }
    }
}
