//! HTTP/1.1 as little as it takes: prepared requests, answers with a length or in chunks, connections that are kept.
//!
//! The client shares two cores with six servers, so it must cost next to nothing: it builds no header map and copies no body.

use anyhow::{Context, Result, bail, ensure};
use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Range,
    time::Duration,
};

/// No answer of a server that works takes longer; a bid's RPC gives up after ten seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// A list of 10,000 stock offers has 3 MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The largest head that any server here sends has 300 bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// What one system call reads: a page of a list.
const READ_BYTES: usize = 64 << 10;

/// Appends a request with a JSON body, or with none when it is empty.
pub(super) fn write_request(to: &mut Vec<u8>, method: &str, host: SocketAddr, path: &str, body: &str) {
    // Writing to a vector cannot fail.
    let _ = write!(to, "{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    if !body.is_empty() {
        let _ = write!(to, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    }
    to.extend_from_slice(b"\r\n");
    to.extend_from_slice(body.as_bytes());
}

/// A whole answer at the start of what was read.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) status: u16,
    /// The bytes of the body, still chunked if it was.
    body: Range<usize>,
    chunked: bool,
}

/// Finds the first answer in `bytes`; `None` when its end has not been read.
pub(super) fn frame(bytes: &[u8]) -> Result<Option<Frame>> {
    let Some(head_end) = find(bytes, b"\r\n\r\n") else {
        ensure!(bytes.len() <= HEAD_BYTES_MAX, "an HTTP head without an end");
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..head_end]).context("an HTTP head that is no text")?;
    let status =
        head.get(9..12).and_then(|digits| digits.parse().ok()).context("an HTTP head without a status")?;
    let body_start = head_end + 4;
    let header = |name: &str| {
        head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    };
    if let Some(length) = header("content-length") {
        let length: usize = length.parse().context("a Content-Length that is no number")?;
        ensure!(length <= ANSWER_BYTES_MAX, "an answer of {length} bytes");
        let body = body_start..body_start + length;
        return Ok((bytes.len() >= body.end).then_some(Frame { status, body, chunked: false }));
    }
    ensure!(header("transfer-encoding") == Some("chunked"), "an answer with neither length nor chunks");
    let mut at = body_start;
    loop {
        match chunk(&bytes[at..])? {
            None => return Ok(None),
            Some(data) if data.is_empty() => {
                return Ok(Some(Frame { status, body: body_start..at + data.end + 2, chunked: true }));
            }
            Some(data) => at += data.end + 2,
        }
        ensure!(at <= ANSWER_BYTES_MAX, "an answer of more than {ANSWER_BYTES_MAX} bytes");
    }
}

/// Where the data of the first chunk is; `None` when it is not all there.
fn chunk(bytes: &[u8]) -> Result<Option<Range<usize>>> {
    let Some(line) = find(bytes, b"\r\n") else { return Ok(None) };
    let size = std::str::from_utf8(&bytes[..line]).ok().and_then(|size| usize::from_str_radix(size, 16).ok());
    let size = size.context("a chunk without a size")?;
    let data = line + 2..line + 2 + size;
    Ok((bytes.len() >= data.end + 2).then_some(data))
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

impl Frame {
    /// The bytes it took.
    pub(super) fn end(&self) -> usize {
        self.body.end
    }

    /// Its body, as text. A chunked one is put together, which only few and small answers need.
    pub(super) fn text(&self, bytes: &[u8]) -> Result<String> {
        let body = &bytes[self.body.clone()];
        if !self.chunked {
            return Ok(String::from_utf8(body.to_vec())?);
        }
        let (mut text, mut at) = (Vec::new(), 0);
        while let Some(data) = chunk(&body[at..])? {
            text.extend_from_slice(&body[at + data.start..at + data.end]);
            at += data.end + 2;
            if at >= body.len() {
                break;
            }
        }
        Ok(String::from_utf8(text)?)
    }
}

/// An answer that was taken out of its connection.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
}

/// A connection that is kept, used by one thread that waits.
pub(super) struct Connection {
    address: SocketAddr,
    stream: TcpStream,
    out: Vec<u8>,
    read: Vec<u8>,
    buffer: Box<[u8]>,
}

impl Connection {
    pub(super) fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).with_context(|| format!("{address} takes no connection"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        let buffer = vec![0; READ_BYTES].into_boxed_slice();
        Ok(Self { address, stream, out: Vec::new(), read: Vec::new(), buffer })
    }

    pub(super) fn send(&mut self, method: &str, path: &str, body: &str) -> Result<()> {
        self.out.clear();
        write_request(&mut self.out, method, self.address, path, body);
        self.stream.write_all(&self.out).with_context(|| format!("{} takes no request", self.address))
    }

    pub(super) fn receive(&mut self) -> Result<Answer> {
        loop {
            if let Some(frame) = frame(&self.read)? {
                let answer = Answer { status: frame.status, body: frame.text(&self.read)? };
                self.read.drain(..frame.end());
                return Ok(answer);
            }
            match self.stream.read(&mut self.buffer) {
                Ok(0) => bail!("{} closed the connection instead of answering", self.address),
                Ok(n) => self.read.extend_from_slice(&self.buffer[..n]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    bail!("{} has not answered for {ANSWER_TIMEOUT:?}", self.address)
                }
                Err(error) => return Err(error).with_context(|| format!("{} gave no answer", self.address)),
            }
        }
    }

    pub(super) fn ask(&mut self, method: &str, path: &str, body: &str) -> Result<Answer> {
        self.send(method, path, body)?;
        self.receive()
    }
}

/// The text between `before` and the next quotation mark. The ids in question contain no escapes.
pub(super) fn quoted_after<'t>(text: &'t str, before: &str) -> Option<&'t str> {
    let rest = &text[text.find(before)? + before.len()..];
    rest.split_once('"').map(|(value, _)| value)
}
