//! What this network puts into a Grenache frame: requests and replies that are signed.
//!
//! Pure. A request is `{cmd, body, from, to, at, sig}` with `body` a *string*, so that what is signed is what is read. The
//! client key of `from` signs, in the domain `rpc`, this encoding, in which no two requests look alike:
//!
//! ```text
//! u32 length of cmd (big-endian) ‖ cmd ‖ to (32 bytes) ‖ at (u64, big-endian) ‖ u32 length of body ‖ body
//! ```
//!
//! A reply is `{from, at, body, sig}` or `{from, at, error: {code, detail, retryable}, sig}`, signed in the domain `rpc-reply`
//! over the request's digest (SHA-256 of its encoding and its signature), `at` and the outcome, encoded in the same manner.
//! So a reply is good for one request only, and one without a good signature is no answer at all: the caller is *in doubt*.
//!
//! Replays are not stopped here but by the ids inside the commands' bodies; `at` only bounds how old a stolen request can be.

use crate::{
    identity::{Domain, KeyPair, Network, PublicKey, Signature},
    time::UnixMillis,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use std::time::Duration;

/// How far `at` may be from the receiver's clock, either way.
pub const CLOCK_SKEW_MAX: Duration = Duration::from_mins(1);
/// The longest body, there and back: a batch of a hundred records of 1,000 bytes.
pub const BODY_BYTES_MAX: usize = 120 * 1024;
/// The longest command name.
pub const CMD_BYTES_MAX: usize = 64;
/// The longest refusal code.
pub const CODE_BYTES_MAX: usize = 64;
/// The longest explanation of a refusal; longer ones are cut when they are made and not read when they come.
pub const DETAIL_BYTES_MAX: usize = 2048;

const REQUEST: &str = "rpc";
const REPLY: &str = "rpc-reply";

/// The codes that the endpoint itself refuses with. Commands add their own.
pub mod code {
    /// The request is for another node.
    pub const WRONG_RECIPIENT: &str = "wrong_recipient";
    /// The signature is not `from`'s.
    pub const BAD_SIGNATURE: &str = "bad_signature";
    /// `at` is too far from this node's clock; the reply's own `at` says what it shows.
    pub const STALE_REQUEST: &str = "stale_request";
    /// This node has no such command.
    pub const UNKNOWN_COMMAND: &str = "unknown_command";
    /// Too many signatures wait to be checked.
    pub const BUSY: &str = "busy";
    /// The command did not finish in time; what became of it is not known.
    pub const NO_ANSWER_IN_TIME: &str = "no_answer_in_time";
}

/// A receiver's no, in words for people and a code for machines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct RpcRefusal {
    /// Stable, lower case with underscores.
    pub code: String,
    /// What happened, on what, what to do next.
    pub detail: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

impl RpcRefusal {
    /// A refusal; code and detail are cut to their limits.
    #[must_use]
    pub fn new(code: &str, detail: impl Into<String>, retryable: bool) -> Self {
        let mut detail = detail.into();
        detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
        let code = code[..code.floor_char_boundary(CODE_BYTES_MAX)].to_owned();
        Self { code, detail, retryable }
    }
}

/// Why an envelope cannot be made or read. Not about signatures: see [`RpcRefusal`] and [`ReplyError`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Over [`CMD_BYTES_MAX`].
    #[error("the command's name is longer than {CMD_BYTES_MAX} bytes")]
    CmdTooLong,
    /// Over [`BODY_BYTES_MAX`].
    #[error("the body is {0} bytes, the limit is {BODY_BYTES_MAX}")]
    BodyTooLong(usize),
    /// Not `{cmd, body, from, to, at, sig}`.
    #[error("this node takes signed requests only, {{cmd, body, from, to, at, sig}}: {0}")]
    NotSigned(String),
}

/// Why a reply is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Not `{from, at, body | error, sig}` within its limits.
    #[error("the reply is not signed")]
    NotSigned,
    /// Signed by somebody else than the one who was asked.
    #[error("the reply is from {found}, not from the node that was asked")]
    WrongSigner {
        /// Who it says it is from.
        found: PublicKey,
    },
    /// Altered, or an answer to another request.
    #[error("the reply's signature is not good for this request")]
    BadSignature,
}

/// SHA-256 over a request's signed encoding and its signature: which request a reply is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestDigest(pub [u8; 32]);

/// A request with its signature. Made by [`SignedRequest::sign`] it is good; read from a frame nothing is known about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedRequest {
    cmd: String,
    body: String,
    from: PublicKey,
    to: PublicKey,
    at: UnixMillis,
    sig: Signature,
}

/// A request whose sender, recipient, time and signature were checked. Made by [`SignedRequest::verify`] only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedRequest(SignedRequest);

impl SignedRequest {
    /// Signs a request to `to` at the sender's time `at`.
    pub fn sign(
        network: &Network,
        key: &KeyPair,
        to: PublicKey,
        cmd: &str,
        body: String,
        at: UnixMillis,
    ) -> Result<Self, EnvelopeError> {
        check_sizes(cmd, &body)?;
        let sig = Domain { network, kind: REQUEST }.sign(key, &encode_request(cmd, &to, at, &body));
        Ok(Self { cmd: cmd.to_owned(), body, from: key.public(), to, at, sig })
    }

    /// Reads a frame's payload.
    pub fn parse(payload: &RawValue) -> Result<Self, EnvelopeError> {
        let request: Self =
            serde_json::from_str(payload.get()).map_err(|e| EnvelopeError::NotSigned(e.to_string()))?;
        check_sizes(&request.cmd, &request.body)?;
        Ok(request)
    }

    /// A frame's payload.
    pub fn to_payload(&self) -> Result<Box<RawValue>, EnvelopeError> {
        serde_json::value::to_raw_value(self).map_err(|e| EnvelopeError::NotSigned(e.to_string()))
    }

    /// What the sender asks for; not checked.
    pub fn cmd(&self) -> &str {
        &self.cmd
    }

    /// True when the sender asks itself.
    pub fn is_to_itself(&self) -> bool {
        self.from == self.to
    }

    /// Whom the sender asks.
    pub fn to(&self) -> &PublicKey {
        &self.to
    }

    /// What a reply to it must have signed.
    #[must_use]
    pub fn digest(&self) -> RequestDigest {
        let encoding = encode_request(&self.cmd, &self.to, self.at, &self.body);
        RequestDigest(Sha256::new().chain_update(encoding).chain_update(self.sig.0).finalize().into())
    }

    /// The checks that cost nothing, to make before a signature is looked at: is it for `me`, and recent?
    pub fn check(&self, me: &PublicKey, now: UnixMillis) -> Result<(), RpcRefusal> {
        if self.to != *me {
            let detail = format!("the request is for {}, this is {me}; look the address up again", self.to);
            return Err(RpcRefusal::new(code::WRONG_RECIPIENT, detail, false));
        }
        if now.since(self.at).max(self.at.since(now)) > CLOCK_SKEW_MAX {
            let detail = format!(
                "the request was signed at {}, this node's clock shows {now}; at most {} s apart are accepted",
                self.at,
                CLOCK_SKEW_MAX.as_secs()
            );
            return Err(RpcRefusal::new(code::STALE_REQUEST, detail, true));
        }
        Ok(())
    }

    /// All checks, the signature last.
    pub fn verify(
        self,
        network: &Network,
        me: &PublicKey,
        now: UnixMillis,
    ) -> Result<VerifiedRequest, RpcRefusal> {
        self.check(me, now)?;
        let encoding = encode_request(&self.cmd, &self.to, self.at, &self.body);
        if !(Domain { network, kind: REQUEST }).verifies(&self.from, &encoding, &self.sig) {
            let detail = format!("the signature is not that of {} on network {network}", self.from);
            return Err(RpcRefusal::new(code::BAD_SIGNATURE, detail, false));
        }
        Ok(VerifiedRequest(self))
    }
}

impl VerifiedRequest {
    /// What is asked for.
    pub fn cmd(&self) -> &str {
        &self.0.cmd
    }

    /// The command's argument, as it was signed.
    pub fn body(&self) -> &str {
        &self.0.body
    }

    /// Who asks.
    pub fn from(&self) -> PublicKey {
        self.0.from
    }

    /// When, by the asker's clock; within [`CLOCK_SKEW_MAX`] of ours.
    pub fn at(&self) -> UnixMillis {
        self.0.at
    }
}

/// What became of a request.
pub type Outcome = Result<String, RpcRefusal>;

/// A reply with its signature; nothing is known about it until [`SignedReply::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedReply {
    from: PublicKey,
    at: UnixMillis,
    outcome: Outcome,
    sig: Signature,
}

/// The answer of the node that was asked to the very request that was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedReply {
    /// The replier's time when it answered.
    pub at: UnixMillis,
    /// The command's result, or why there is none.
    pub outcome: Outcome,
}

/// The JSON form: exactly one of `body` and `error`.
#[derive(Serialize, Deserialize)]
struct ReplyForm {
    from: PublicKey,
    at: UnixMillis,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<RpcRefusal>,
    sig: Signature,
}

impl SignedReply {
    /// Signs the outcome of the request with this digest.
    pub fn sign(
        network: &Network,
        key: &KeyPair,
        request: &RequestDigest,
        at: UnixMillis,
        outcome: Outcome,
    ) -> Result<Self, EnvelopeError> {
        if let Ok(body) = &outcome {
            check_sizes("", body)?;
        }
        let sig = Domain { network, kind: REPLY }.sign(key, &encode_reply(request, at, &outcome));
        Ok(Self { from: key.public(), at, outcome, sig })
    }

    /// Reads a frame's result.
    pub fn parse(result: &RawValue) -> Result<Self, ReplyError> {
        let form: ReplyForm = serde_json::from_str(result.get()).map_err(|_| ReplyError::NotSigned)?;
        let outcome = match (form.body, form.error) {
            (Some(body), None) if body.len() <= BODY_BYTES_MAX => Ok(body),
            (None, Some(error))
                if error.code.len() <= CODE_BYTES_MAX && error.detail.len() <= DETAIL_BYTES_MAX =>
            {
                Err(error)
            }
            _ => return Err(ReplyError::NotSigned),
        };
        Ok(Self { from: form.from, at: form.at, outcome, sig: form.sig })
    }

    /// The frame's error element, `CODE: detail`, and its result element.
    pub fn into_elements(self) -> Result<(Option<String>, Box<RawValue>), EnvelopeError> {
        let (body, error) = match self.outcome {
            Ok(body) => (Some(body), None),
            Err(refusal) => (None, Some(refusal)),
        };
        let text = error.as_ref().map(|error| format!("{}: {}", error.code.to_uppercase(), error.detail));
        let form = ReplyForm { from: self.from, at: self.at, body, error, sig: self.sig };
        let result =
            serde_json::value::to_raw_value(&form).map_err(|e| EnvelopeError::NotSigned(e.to_string()))?;
        Ok((text, result))
    }

    /// Whether it is the answer of the node `request` was sent to, to that request.
    pub fn verify(self, network: &Network, request: &SignedRequest) -> Result<VerifiedReply, ReplyError> {
        if cfg!(mutant = "unsigned_reply_accepted") {
            return Ok(VerifiedReply { at: self.at, outcome: self.outcome });
        }
        if self.from != request.to {
            return Err(ReplyError::WrongSigner { found: self.from });
        }
        let encoding = encode_reply(&request.digest(), self.at, &self.outcome);
        if !(Domain { network, kind: REPLY }).verifies(&self.from, &encoding, &self.sig) {
            return Err(ReplyError::BadSignature);
        }
        Ok(VerifiedReply { at: self.at, outcome: self.outcome })
    }
}

fn check_sizes(cmd: &str, body: &str) -> Result<(), EnvelopeError> {
    if cmd.len() > CMD_BYTES_MAX {
        return Err(EnvelopeError::CmdTooLong);
    }
    if body.len() > BODY_BYTES_MAX {
        return Err(EnvelopeError::BodyTooLong(body.len()));
    }
    Ok(())
}

fn encode_request(cmd: &str, to: &PublicKey, at: UnixMillis, body: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(cmd.len() + body.len() + 48);
    put_text(&mut out, cmd);
    out.extend_from_slice(&to.0);
    out.extend_from_slice(&at.0.to_be_bytes());
    put_text(&mut out, body);
    out
}

fn encode_reply(request: &RequestDigest, at: UnixMillis, outcome: &Outcome) -> Vec<u8> {
    let mut out = Vec::with_capacity(outcome.as_ref().map_or(256, String::len) + 48);
    out.extend_from_slice(&request.0);
    out.extend_from_slice(&at.0.to_be_bytes());
    match outcome {
        Ok(body) => {
            out.push(0);
            put_text(&mut out, body);
        }
        Err(RpcRefusal { code, detail, retryable }) => {
            out.push(1);
            put_text(&mut out, code);
            put_text(&mut out, detail);
            out.push(u8::from(*retryable));
        }
    }
    out
}

/// The length first, so that no text can run into its neighbour. Lengths are bounded far below 2^32 before this is called.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(&(text.len() as u32).to_be_bytes());
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests;
