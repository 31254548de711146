//! One page, fetched over HTTP/1.1 with the connection kept alive; only as much of HTTP as the measured servers use.

const HEAD_END: &[u8] = b"\r\n\r\n";

pub struct Page {
    pub request: Vec<u8>,
    body: Vec<u8>,
}

impl Page {
    /// The page at `/`, which must have this body.
    pub fn new(body: &str) -> Self {
        let request = b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: */*\r\n\r\n".to_vec();
        Self { request, body: body.as_bytes().to_vec() }
    }

    /// Says whether `answer` is whole; an answer that can no longer become the page is an error.
    pub fn is_whole(&self, answer: &[u8]) -> Result<bool, String> {
        let Some(end) = answer.windows(HEAD_END.len()).position(|window| window == HEAD_END) else {
            return Ok(false);
        };
        let head = String::from_utf8_lossy(&answer[..end]);
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default();
        if !status.starts_with("HTTP/1.1 200 ") {
            return Err(format!("the server answered {status:?} instead of the page"));
        }
        let length = lines
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, value)| value.trim().parse::<usize>().ok())
            .ok_or("the server's answer has no Content-Length")?;
        let body = &answer[end + HEAD_END.len()..];
        if body.len() > length {
            return Err(format!("{} bytes came for a page of {length} bytes", body.len()));
        }
        if body.len() == length && body != self.body {
            return Err(format!("the page is {:?}", String::from_utf8_lossy(body)));
        }
        Ok(body.len() == length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"HTTP/1.1 200 OK\r\nserver: x\r\ncontent-length: 5\r\n\r\nhello";

    #[test]
    fn a_page_is_whole_with_its_last_byte() {
        let page = Page::new("hello");
        for count in 0..WHOLE.len() {
            assert_eq!(page.is_whole(&WHOLE[..count]), Ok(false));
        }
        assert_eq!(page.is_whole(WHOLE), Ok(true));
    }

    #[test]
    fn what_is_not_the_page_is_an_error() {
        let page = Page::new("hello");
        for answer in [
            [WHOLE, b"!"].concat().as_slice(),
            b"HTTP/1.1 500 No\r\ncontent-length: 5\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\n\r\nhello",
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworld",
        ] {
            assert!(page.is_whole(answer).is_err());
        }
    }
}
