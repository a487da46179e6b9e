//! The little of HTTP/1.1 that answers of the measured servers need.

use std::borrow::Cow;

/// An answer at the beginning of what was received.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer<'a> {
    /// Its status.
    pub(crate) status: u16,
    /// Its body.
    pub(crate) body: Cow<'a, [u8]>,
    /// How many bytes it has, head included.
    pub(crate) bytes: usize,
}

/// Takes an answer apart. `Ok(None)`: it is not whole yet. `Err`: it never will be, or says neither its length nor
/// that it comes in chunks.
pub(crate) fn parse(received: &[u8]) -> Result<Option<Answer<'_>>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut head = httparse::Response::new(&mut headers);
    let start = match head.parse(received) {
        Ok(httparse::Status::Complete(start)) => start,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(format!("the answer is no HTTP: {error}")),
    };
    let status = head.code.ok_or("the answer has no status")?;
    let value = |name: &str| {
        let mut headers = head.headers.iter();
        let header = headers.find(|header| header.name.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(header.value).ok().map(str::trim)
    };
    if value("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        let whole = join_chunks(&received[start..])?;
        return Ok(whole.map(|(body, bytes)| Answer { status, body, bytes: start + bytes }));
    }
    let length = value("content-length")
        .and_then(|length| length.parse::<usize>().ok())
        .ok_or("the answer has neither a Content-Length nor chunks")?;
    let bytes = start.checked_add(length).ok_or("the answer claims to be endless")?;
    let body = received.get(start..bytes);
    Ok(body.map(|body| Answer { status, body: Cow::Borrowed(body), bytes }))
}

/// A body, and how many bytes its chunks took.
type Joined<'a> = (Cow<'a, [u8]>, usize);

/// The body out of its chunks, and how many bytes the chunks took. A single chunk, which is what small answers
/// are, is not copied.
fn join_chunks(mut rest: &[u8]) -> Result<Option<Joined<'_>>, String> {
    let whole = rest.len();
    let mut body = Cow::Borrowed(&rest[..0]);
    loop {
        let (start, length) = match httparse::parse_chunk_size(rest) {
            Ok(httparse::Status::Complete(found)) => found,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err("the answer has a chunk without a size".to_owned()),
        };
        let end = usize::try_from(length).ok().and_then(|length| start.checked_add(length));
        let end = end.ok_or("the answer has an endless chunk")?;
        let (Some(chunk), Some(after)) = (rest.get(start..end), rest.get(end..end + 2)) else {
            return Ok(None);
        };
        if after != b"\r\n" {
            return Err("the answer has a chunk longer than it says, or trailers".to_owned());
        }
        rest = &rest[end + 2..];
        if chunk.is_empty() {
            return Ok(Some((body, whole - rest.len())));
        }
        if body.is_empty() {
            body = Cow::Borrowed(chunk);
        } else {
            body.to_mut().extend_from_slice(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_whole_only_at_the_end(text: &[u8], body: &[u8]) {
        for end in 0..text.len() {
            assert_eq!(parse(&text[..end]), Ok(None), "{end}");
        }
        let received = [text, b"HTTP/1.1 "].concat();
        assert_eq!(parse(&received), Ok(Some(Answer { status: 200, body: body.into(), bytes: text.len() })));
    }

    #[test]
    fn an_answer_is_taken_when_it_is_whole() {
        assert_whole_only_at_the_end(b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\nX: y\r\n\r\nhello", b"hello");
    }

    #[test]
    fn chunks_are_put_together() {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (chunks, body) in [
            ("0\r\n\r\n", ""),
            ("5\r\nhello\r\n0\r\n\r\n", "hello"),
            ("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "hello"),
        ] {
            assert_whole_only_at_the_end(format!("{head}{chunks}").as_bytes(), body.as_bytes());
        }
        parse(format!("{head}5\r\nhello!\r\n").as_bytes()).unwrap_err();
        parse(format!("{head}x\r\n").as_bytes()).unwrap_err();
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        for text in [
            &b"HTTP/1.1 200 OK\r\n\r\n"[..],
            b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551615\r\n\r\n",
            b"SSH-2.0\r\n\r\n",
        ] {
            parse(text).unwrap_err();
        }
    }
}
