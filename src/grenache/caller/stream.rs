//! Streams: a body of any length in chunks, named by headers, answered like a request.

use super::{Caller, PlainReply, RequestError, read};
use crate::grenache::wire::{self, Rid};
use hyper::body::{Body, Bytes, Frame};
use serde_json::value::RawValue;
use std::{
    convert::Infallible,
    fmt::Write,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// The service's name.
    pub key: &'a str,
    /// What the service is to do, its `_a` header. Visible ASCII.
    pub action: Option<&'a str>,
    /// Arguments in JSON, its `_ar` header.
    pub args: Option<&'a RawValue>,
}

impl Caller {
    /// Sends what comes out of `chunks`, until it is closed, to one service, and reads its reply, which may come before the end.
    /// The channel's capacity is how much is held here. Never packed.
    ///
    /// # Errors
    /// See [`RequestError`]. The deadline is that of the whole stream.
    pub async fn stream(
        &self,
        address: SocketAddr,
        named: Named<'_>,
        chunks: mpsc::Receiver<Bytes>,
    ) -> Result<PlainReply, RequestError> {
        self.check(address)?;
        let rid = Rid::text(&uuid::Uuid::now_v7().to_string())?;
        let request = self.post(address).header("_gr", ascii(&wire::write_name(&rid, named.key)?));
        let request = match named.action {
            None => request,
            Some(action) => request.header("_a", action),
        };
        let request = match named.args {
            None => request,
            Some(args) => request.header("_ar", ascii(args.get())),
        };
        let request = request.body(reqwest::Body::wrap(Chunks(chunks)));
        let body = self.send(address, request).await?;
        read(address, &rid, &body, false)
    }
}

/// JSON for a header, which may have visible ASCII only: the rest is written as JSON escapes, and line breaks, which JSON has
/// between its elements only, as spaces.
fn ascii(json: &str) -> String {
    let mut units = [0; 2];
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            ' '..='~' => text.push(c),
            '\0'..='\x1f' => text.push(' '),
            _ => {
                for unit in c.encode_utf16(&mut units) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
        }
    }
    text
}

struct Chunks(mpsc::Receiver<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn json_in_a_header_is_ascii_and_says_the_same(text: String, pretty: bool) {
            let value = serde_json::json!({ "text": text, "n": [1, null] });
            let json = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let header = ascii(&json);
            prop_assert!(header.bytes().all(|b| (0x20..0x7f).contains(&b)), "{header}");
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&header).unwrap(), value);
        }
    }
}
