//! One request, from its head to its answer.
//!
//! In this order, so that whoever has least right costs least: size, the source's rate, unpacking, framing, and only then the
//! handler.

use super::{BODY_TIMEOUT, Call, Handler, Refusal, Reply, Service, Stream, Streamed};
use crate::{
    grenache::{
        gzip,
        wire::{self, FRAME_BYTES_MAX, Rid},
    },
    listener::{App, Peer, PeerCertificate},
};
use axum::http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

impl<H: Handler> App for Arc<Service<H>> {
    type Body = Full<Bytes>;

    /// One handler for every path and method: stock clients always post to `/`, but a stock server does not care.
    async fn answer(
        self,
        request: Request<Incoming>,
        peer: Peer,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let received = Instant::now();
        let (parts, body) = request.into_parts();
        let asked = Asked {
            received,
            from: peer.0,
            gzip: header(&parts.headers, "grc-compress").is_some_and(|value| value.contains("gzip")),
            overrides: header(&parts.headers, "_gr"),
            certificate: parts.extensions.get::<PeerCertificate>(),
            headers: &parts.headers,
        };
        let (rid, reply) = self.reply(&asked, body).await;
        let reply = reply.unwrap_or_else(|refusal| {
            self.handler.refused(&refusal, received.elapsed());
            Reply::error(refusal.text)
        });
        Ok(respond(&rid, reply.error.as_deref(), &reply.result, asked.gzip))
    }
}

/// What a request's head says.
struct Asked<'a> {
    received: Instant,
    from: SocketAddr,
    gzip: bool,
    overrides: Option<&'a str>,
    certificate: Option<&'a PeerCertificate>,
    headers: &'a HeaderMap,
}

type Answer = (Rid, Result<Reply, Refusal>);

impl<H: Handler> Service<H> {
    async fn reply(&self, asked: &Asked<'_>, body: Incoming) -> Answer {
        if let Some((rid, key)) = asked.overrides.filter(|_| !asked.gzip).and_then(wire::named) {
            return (rid, self.stream(asked, key, body).await);
        }
        match read_body(body, FRAME_BYTES_MAX).await {
            Err(refusal) => (Rid::null(), Err(refusal)),
            Ok(frame) if !self.admits(asked.from) => {
                // Told apart by its id if that costs nothing; nothing is unpacked for a source that asks too often.
                let rid = if asked.gzip { Rid::null() } else { wire::rid_of(&frame, asked.overrides) };
                (rid, Err(self.too_often(asked.from)))
            }
            Ok(frame) => self.frame(asked, &frame).await,
        }
    }

    async fn frame(&self, asked: &Asked<'_>, body: &[u8]) -> Answer {
        let request = unpack(body, asked.gzip).and_then(|frame| {
            wire::parse_request(&frame, asked.overrides).map_err(|error| Refusal::new(Refusal::FRAME, error))
        });
        let wire::Request { rid, key, payload } = match request {
            Ok(request) => request,
            Err(refusal) => return (Rid::null(), Err(refusal)),
        };
        let answer = self.handler.request(asked.call(key, payload, None));
        let reply = match self.handler_timeout {
            None => answer.await,
            Some(timeout) => within(timeout, answer).await,
        };
        (rid, reply)
    }

    async fn stream(&self, asked: &Asked<'_>, key: String, body: Incoming) -> Result<Reply, Refusal> {
        if !self.admits(asked.from) {
            return Err(self.too_often(asked.from));
        }
        let args = header(asked.headers, "_ar").and_then(|args| serde_json::from_str(args).ok());
        let streamed = Streamed {
            action: header(asked.headers, "_a").map(str::to_owned),
            args: args.unwrap_or_else(|| RawValue::from_string("{}".to_owned()).unwrap_or_default()),
            body: Bytes::new(),
        };
        let call = asked.call(key, RawValue::NULL.to_owned(), Some(Box::new(streamed)));
        // In a box, so that requests, which are many, have no room for a stream's state.
        let answer = Box::pin(self.handler.stream(Stream { call, body, left: self.stream_bytes_max }));
        within(self.stream_timeout, answer).await
    }

    fn admits(&self, from: SocketAddr) -> bool {
        let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.started.elapsed();
        if self.known.load().contains(&from.ip().to_canonical()) {
            rate.admit_known(from.ip(), now)
        } else {
            rate.admit(from.ip(), now)
        }
    }

    fn too_often(&self, from: SocketAddr) -> Refusal {
        let detail = format!("more than {} requests a second from {}; slow down", self.per_second, from.ip());
        Refusal::new(Refusal::RATE, detail)
    }
}

impl Asked<'_> {
    fn call(&self, key: String, payload: Box<RawValue>, stream: Option<Box<Streamed>>) -> Call {
        let Self { received, from, certificate, .. } = *self;
        Call { key, payload, from, certificate: certificate.cloned(), received, stream }
    }
}

async fn within(
    timeout: Duration,
    answer: impl Future<Output = Result<Reply, Refusal>>,
) -> Result<Reply, Refusal> {
    tokio::time::timeout(timeout, answer).await.unwrap_or_else(|_| {
        let detail = format!("the service did not answer within {} ms", timeout.as_millis());
        Err(Refusal::new(Refusal::TIMEOUT, detail))
    })
}

/// The body, if it ends in time and within `bytes_max`.
pub(super) async fn read_body(body: Incoming, bytes_max: usize) -> Result<Bytes, Refusal> {
    let too_long = || Refusal::new(Refusal::SIZE, format!("a request may have {bytes_max} bytes"));
    // A body that says it is too long is not even begun.
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(too_long());
    }
    match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(too_long()),
        Err(_) => Err(Refusal::body_late()),
    }
}

/// The body as it was before it was packed.
fn unpack(body: &[u8], gzip: bool) -> Result<Cow<'_, [u8]>, Refusal> {
    if !gzip {
        return Ok(body.into());
    }
    let too_long =
        |_| Refusal::new(Refusal::SIZE, format!("a request may have {FRAME_BYTES_MAX} bytes unpacked"));
    wire::unpack(body).map_err(too_long)
}

/// Status 200, no content type, no content encoding, whatever the outcome: stock clients read nothing else.
fn respond(rid: &Rid, error: Option<&str>, result: &RawValue, gzip: bool) -> Response<Full<Bytes>> {
    let frame = wire::write_reply(rid, error, result).unwrap_or_else(|error| {
        let text = format!("{}: {error}", Refusal::REPLY);
        wire::write_reply(rid, Some(&text), RawValue::NULL).unwrap_or_default()
    });
    let packed = if gzip { gzip::pack(&frame) } else { None };
    Response::new(Full::from(packed.unwrap_or(frame)))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}
