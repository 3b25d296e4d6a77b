//! Repairs answers of HTTP/1 servers before the HTTP client reads them.
//!
//! Real servers send what RFC 9112 forbids and what curl and browsers accept: warnings of a script between header
//! fields, folded fields, bare line feeds, several lengths, chunks with blanks. [`Tidier`] accepts the same. It keeps
//! the status, the few fields that are used here, and an unambiguous framing.
//!
//! Every request is a `GET`, so the answer alone determines its framing. Pure: bytes in, bytes out.

use std::fmt::Write as _;

/// Bytes of an answer's whole head: curl's limit.
const HEAD_BYTES_MAX: usize = 300 * 1024;
/// Bytes of a chunk's size line with its extensions, or of all trailers.
const CHUNK_LINE_BYTES_MAX: usize = 16 * 1024;
/// The header fields that are used, apart from framing.
const FIELDS: [&str; 7] =
    ["content-encoding", "content-range", "date", "etag", "last-modified", "location", "retry-after"];

/// The input is not a readable HTTP/1 answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::media) enum Malformed {
    #[error("it does not begin with HTTP/1 and a status")]
    NoStatus,
    #[error("its head has more than 300 KiB")]
    LongHead,
    #[error("a chunk does not begin with its size")]
    NoChunkSize,
    #[error("a chunk is not as long as its size says")]
    NoChunkEnd,
    #[error("the size of a chunk, or what follows the last one, does not end")]
    LongChunkLine,
}

/// The answers of one connection, one after another.
#[derive(Debug, Default)]
pub(super) struct Tidier {
    state: State,
    /// The part of a head, chunk line or trailers received so far.
    line: Vec<u8>,
    out: Vec<u8>,
    /// How much of `out` has been taken.
    taken: usize,
    /// The server closes after this answer, or cannot be trusted with another one.
    closes: bool,
    /// An earlier answer came on this connection.
    answered: bool,
}

#[derive(Debug, Default)]
enum State {
    /// No request is under way.
    #[default]
    Idle,
    Head,
    /// This many bytes are to come.
    Sized(u64),
    /// Contradicting lengths, ascending. The body ends with the connection, or at the largest length.
    Disputed {
        lengths: Vec<u64>,
        seen: u64,
    },
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    /// The body ends with the connection.
    ToTheEnd,
    /// Further input belongs to no request.
    Over,
}

impl Tidier {
    /// The client sends data. Between answers, this starts a request.
    pub(super) fn sent(&mut self) {
        if matches!(self.state, State::Idle) {
            self.state = State::Head;
        }
    }

    /// Bytes for the client to read.
    pub(super) fn ready(&self) -> &[u8] {
        &self.out[self.taken..]
    }

    /// The client has read `bytes` of [`Tidier::ready`].
    pub(super) fn take(&mut self, bytes: usize) {
        self.taken += bytes;
        if self.taken == self.out.len() {
            self.out.clear();
            self.taken = 0;
        }
    }

    /// Whether the client must see the end of the connection.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Whether a later request waits on a reused connection and nothing of its answer has come. If the connection ends
    /// now, the server closed it before it saw the request.
    pub(super) fn is_reused(&self) -> bool {
        self.answered && matches!(self.state, State::Head) && self.line.is_empty()
    }

    /// The server closed the connection.
    pub(super) fn end(&mut self) {
        match &self.state {
            // The body matches one of the lengths.
            State::Disputed { lengths, seen } if lengths.contains(seen) => self.out.extend_from_slice(b"0\r\n\r\n"),
            // The last chunk has come; only the final line is missing.
            State::Trailers => self.out.extend_from_slice(b"\r\n"),
            _ => {}
        }
        self.state = State::Over;
    }

    /// The server sent `input`.
    ///
    /// # Errors
    /// See [`Malformed`]; the connection is unusable then.
    pub(super) fn feed(&mut self, mut input: &[u8]) -> Result<(), Malformed> {
        while !input.is_empty() {
            match self.state {
                // More than announced, or unrequested: curl leaves it unread, too.
                State::Idle | State::Over => {
                    self.state = State::Over;
                    return Ok(());
                }
                State::Head => input = self.head(input)?,
                State::ToTheEnd => {
                    self.out.extend_from_slice(input);
                    return Ok(());
                }
                State::Sized(left) => {
                    let (body, rest) = input.split_at(part(input, left));
                    self.out.extend_from_slice(body);
                    self.state = State::Sized(left - body.len() as u64);
                    input = rest;
                    if matches!(self.state, State::Sized(0)) {
                        self.done();
                    }
                }
                State::Disputed { .. } => input = self.disputed(input),
                State::ChunkSize => input = self.chunk_size(input)?,
                State::Chunk(left) => {
                    let (body, rest) = input.split_at(part(input, left));
                    self.chunk(body);
                    let left = left - body.len() as u64;
                    self.state = if left == 0 { State::ChunkEnd } else { State::Chunk(left) };
                    input = rest;
                }
                State::ChunkEnd => {
                    let (first, rest) = input.split_at(1);
                    match first {
                        b"\r" => {}
                        b"\n" => self.state = State::ChunkSize,
                        _ => return Err(Malformed::NoChunkEnd),
                    }
                    input = rest;
                }
                State::Trailers => {
                    let (line, rest) = self.line(input, CHUNK_LINE_BYTES_MAX).ok_or(Malformed::LongChunkLine)?;
                    input = rest;
                    if line.is_some_and(|line| line.is_empty()) {
                        self.out.extend_from_slice(b"\r\n");
                        self.done();
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes a line from `input`, without its end. `Some(None)`: incomplete so far; `None`: longer than `max` bytes.
    fn line<'a>(&mut self, input: &'a [u8], max: usize) -> Option<(Option<Vec<u8>>, &'a [u8])> {
        let end = input.iter().position(|byte| *byte == b'\n');
        let (part, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
        if self.line.len() + part.len() > max {
            return None;
        }
        self.line.extend_from_slice(part);
        let line = end.map(|_| {
            let mut line = std::mem::take(&mut self.line);
            let kept = line.iter().rposition(|byte| !matches!(byte, b'\r' | b'\n')).map_or(0, |last| last + 1);
            line.truncate(kept);
            line
        });
        Some((line, rest))
    }

    fn head<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let mut ends = None;
        for (at, byte) in input.iter().enumerate() {
            self.line.push(*byte);
            if *byte == b'\n' && ends_head(&self.line) {
                ends = Some(at + 1);
                break;
            }
            if self.line.len() > HEAD_BYTES_MAX {
                return Err(Malformed::LongHead);
            }
        }
        let Some(end) = ends else {
            // This cannot become a status line, so fail without waiting for more.
            return if may_be_status(&self.line) { Ok(&[]) } else { Err(Malformed::NoStatus) };
        };
        let head = std::mem::take(&mut self.line);
        if head.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            // Empty lines before the head (RFC 9112 §2.2).
            return Ok(&input[end..]);
        }
        self.begin(&head)?;
        Ok(&input[end..])
    }

    /// Writes the repaired head and determines the length of the body.
    fn begin(&mut self, head: &[u8]) -> Result<(), Malformed> {
        let head = Head::parse(head)?;
        if (100..200).contains(&head.status) {
            // An interim answer: the final one follows.
            return Ok(());
        }
        self.closes = head.closes;
        self.answered = true;
        let mut tidy = format!("HTTP/1.1 {} -\r\n", head.status).into_bytes();
        for (name, value) in &head.fields {
            tidy.extend_from_slice(name.as_bytes());
            tidy.extend_from_slice(b": ");
            tidy.extend(value.iter().filter(|byte| **byte == b'\t' || !byte.is_ascii_control()));
            tidy.extend_from_slice(b"\r\n");
        }
        let mut framing = String::new();
        let mut lengths = head.lengths;
        lengths.sort_unstable();
        lengths.dedup();
        let bodiless = matches!(head.status, 204 | 304);
        self.state = match (bodiless, head.chunked, lengths.as_slice()) {
            (true, ..) => State::Sized(0),
            (_, true, _) => State::ChunkSize,
            (_, _, []) => State::ToTheEnd,
            (_, _, [length]) => State::Sized(*length),
            _ => State::Disputed { lengths, seen: 0 },
        };
        self.closes |= matches!(self.state, State::Disputed { .. } | State::ToTheEnd);
        // Writing to a `String` cannot fail.
        let _ = match self.state {
            State::Sized(length) if !bodiless => write!(framing, "content-length: {length}\r\n"),
            State::ChunkSize | State::Disputed { .. } => write!(framing, "transfer-encoding: chunked\r\n"),
            _ => Ok(()),
        };
        if self.closes {
            framing.push_str("connection: close\r\n");
        }
        tidy.extend_from_slice(framing.as_bytes());
        tidy.extend_from_slice(b"\r\n");
        self.out.extend_from_slice(&tidy);
        if matches!(self.state, State::Sized(0)) {
            self.done();
        }
        Ok(())
    }

    fn disputed<'a>(&mut self, input: &'a [u8]) -> &'a [u8] {
        let State::Disputed { lengths, seen } = &mut self.state else { return input };
        let longest = lengths.last().copied().unwrap_or_default();
        let (body, rest) = input.split_at(part(input, longest - *seen));
        *seen += body.len() as u64;
        let done = *seen == longest;
        self.chunk(body);
        if done {
            self.out.extend_from_slice(b"0\r\n\r\n");
            self.done();
        }
        rest
    }

    fn chunk_size<'a>(&mut self, input: &'a [u8]) -> Result<&'a [u8], Malformed> {
        let (line, rest) = self.line(input, CHUNK_LINE_BYTES_MAX).ok_or(Malformed::LongChunkLine)?;
        let Some(line) = line else { return Ok(rest) };
        let digits: String =
            String::from_utf8_lossy(line.trim_ascii_start()).chars().take_while(char::is_ascii_hexdigit).collect();
        // After the digits, extensions, blanks and junk are ignored. But `0x10` is not the last chunk.
        let rest_of_line = line.trim_ascii_start()[digits.len()..].trim_ascii_start();
        if digits.bytes().all(|digit| digit == b'0') && !matches!(rest_of_line.first(), None | Some(b';')) {
            return Err(Malformed::NoChunkSize);
        }
        match u64::from_str_radix(&digits, 16).map_err(|_| Malformed::NoChunkSize)? {
            0 => {
                self.out.extend_from_slice(b"0\r\n");
                self.state = State::Trailers;
            }
            size => self.state = State::Chunk(size),
        }
        Ok(rest)
    }

    fn chunk(&mut self, body: &[u8]) {
        if !body.is_empty() {
            self.out.extend_from_slice(format!("{:x}\r\n", body.len()).as_bytes());
            self.out.extend_from_slice(body);
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn done(&mut self) {
        self.state = if self.closes { State::Over } else { State::Idle };
    }
}

/// How many bytes of `input` belong to a part with `left` bytes to come.
fn part(input: &[u8], left: u64) -> usize {
    input.len().min(usize::try_from(left).unwrap_or(usize::MAX))
}

/// Whether the line that just ended is empty.
fn ends_head(text: &[u8]) -> bool {
    let mut before = text[..text.len() - 1].iter().rev().skip_while(|byte| **byte == b'\r');
    before.next().is_none_or(|byte| *byte == b'\n')
}

/// Whether the partial head can still become a status line.
fn may_be_status(head: &[u8]) -> bool {
    let head = head.trim_ascii_start();
    let known = head.len().min(5);
    head[..known].eq_ignore_ascii_case(&b"HTTP/"[..known])
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Head {
    status: u16,
    fields: Vec<(&'static str, Vec<u8>)>,
    /// All readable announced lengths.
    lengths: Vec<u64>,
    chunked: bool,
    closes: bool,
}

impl Head {
    /// `text` includes the final empty line. Lines that are not header fields are skipped.
    fn parse(text: &[u8]) -> Result<Self, Malformed> {
        let mut lines = text.split(|byte| *byte == b'\n').map(|line| {
            let end = line.iter().rposition(|byte| *byte != b'\r').map_or(0, |last| last + 1);
            &line[..end]
        });
        let first = lines.find(|line| !line.is_empty()).ok_or(Malformed::NoStatus)?;
        let (version, status) = status(first).ok_or(Malformed::NoStatus)?;
        let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
        for line in lines {
            match (line.first(), line.iter().position(|byte| *byte == b':')) {
                // A folded line continues the one before (RFC 9112 §5.2).
                (Some(b' ' | b'\t'), _) => {
                    if let Some((_, value)) = fields.last_mut() {
                        value.push(b' ');
                        value.extend_from_slice(line.trim_ascii());
                    }
                }
                (Some(_), Some(colon)) => {
                    let name = String::from_utf8_lossy(line[..colon].trim_ascii()).to_ascii_lowercase();
                    fields.push((name, line[colon + 1..].trim_ascii().to_vec()));
                }
                // Junk, like any folded line after it.
                _ => fields.push((String::new(), Vec::new())),
            }
        }
        let mut head = Self { status, closes: version == 0, ..Self::default() };
        for (name, value) in fields {
            let tokens = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
            match name.as_str() {
                "content-length" => head.lengths.extend(tokens().filter_map(length)),
                "transfer-encoding" => {
                    for token in tokens() {
                        match token.to_ascii_lowercase().as_slice() {
                            b"chunked" => head.chunked = true,
                            // Undone as a content encoding.
                            other => head.fields.push(("content-encoding", other.to_vec())),
                        }
                    }
                }
                "connection" => {
                    let has = |word: &[u8]| tokens().any(|token| token.eq_ignore_ascii_case(word));
                    head.closes = has(b"close") || (head.closes && !has(b"keep-alive"));
                }
                _ => {
                    if let Some(name) = FIELDS.iter().find(|known| **known == name) {
                        head.fields.push((name, value.trim_ascii().to_vec()));
                    }
                }
            }
        }
        Ok(head)
    }
}

/// Minor version and status of `HTTP/1.1 200 OK`. Accepts a missing reason, extra blanks and any case.
fn status(line: &[u8]) -> Option<(u8, u16)> {
    let rest = line.trim_ascii_start();
    let rest = rest.get(..5).filter(|start| start.eq_ignore_ascii_case(b"HTTP/")).map(|_| &rest[5..])?;
    let blank = rest.iter().position(|byte| matches!(byte, b' ' | b'\t'))?;
    let (version, rest) = (&rest[..blank], rest[blank..].trim_ascii_start());
    // Some gateways copy HTTP/2 as text from the server behind them.
    let minor = match version {
        b"1.0" => 0,
        [b'1', b'.', b'0'..=b'9'] | b"2" | b"2.0" => 1,
        _ => return None,
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let status: u16 = std::str::from_utf8(&rest[..digits]).ok()?.parse().ok()?;
    (digits == 3 && status >= 100).then_some((minor, status))
}

/// The leading digits of a length; `None` if there are none or they overflow.
fn length(token: &[u8]) -> Option<u64> {
    let token = token.strip_prefix(b"+").unwrap_or(token);
    let digits = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&token[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
