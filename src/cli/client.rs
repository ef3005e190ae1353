//! A client of the REST API, for the commands that ask a running node.

use super::{
    advice::Told, exit::WrongUsage, offers, output, path::UserPath, reach::Reach, settings::read_token,
};
use crate::{
    http::types::{OfferView, ProblemView},
    shown::harmless,
};
use anyhow::{Context, Result};
use reqwest::{Method, StatusCode, Url};
use serde::{Serialize, de::DeserializeOwned};
use std::{fmt, time::Duration};

/// How long an answer may take: longer than a bid may wait for its maker.
const ANSWER_WITHIN: Duration = Duration::from_secs(45);

/// Where the commands look for a node that nobody named.
pub(crate) const API_DEFAULT: &str = "http://127.0.0.1:4000";

/// Which node is asked, and how its answers are printed.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClientArgs {
    /// The node's API
    #[arg(
        // Another id than that of the setting `--api`: what is global is shared by its id, and this one is a URL.
        id = "node_api",
        long = "api",
        global = true,
        env = "VINTNER_URL",
        value_name = "URL",
        default_value = API_DEFAULT
    )]
    pub(super) api: String,

    /// The API's token
    #[arg(long, global = true, env = "VINTNER_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub(super) token: Option<String>,

    /// File that holds the API's token
    #[arg(
        id = "node_token_file",
        long = "token-file",
        global = true,
        env = "VINTNER_TOKEN_FILE",
        value_name = "FILE",
        conflicts_with = "token"
    )]
    pub(super) token_file: Option<UserPath>,

    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

/// The node refused: its own words.
#[derive(Debug)]
pub(crate) struct Refused {
    problem: Box<ProblemView>,
    /// The id of what was asked about, where there was one.
    about: String,
    json: bool,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", harmless(&self.problem.detail), harmless(&self.problem.code))
    }
}

impl Refused {
    /// Tells the user, with what to do next.
    pub(crate) fn report(&self, reach: &Reach) {
        if self.json
            && let Err(error) = output::print_json(&self.problem)
        {
            output::tell(&Told::of(&error).to_string());
        }
        output::tell(&self.told(reach));
    }

    fn told(&self, reach: &Reach) -> String {
        let mut lines = vec![format!("error: {self}")];
        for error in &self.problem.errors {
            let place = error.pointer.as_deref().or(error.parameter.as_deref()).unwrap_or_default();
            lines.push(format!("  {} {}", harmless(place), harmless(&error.detail)));
        }
        if let Some(offer) = &self.problem.offer {
            lines.push(format!("  it is now: {}", harmless(&in_words(offer))));
        }
        let next = next_step(&self.problem.code, &self.about).unwrap_or_else(|| LOOK_AT_THE_FORM.into());
        lines.push(format!("next: {next}"));
        reach.repeat(&lines.join("\n"))
    }

    /// Whether the very same question may be answered later.
    pub(crate) fn is_retryable(&self) -> bool {
        self.problem.retryable
    }

    /// The problem's code.
    pub(crate) fn code(&self) -> &str {
        &self.problem.code
    }
}

/// What a bid would be for.
fn in_words(offer: &OfferView) -> String {
    let OfferView { side, btc_quantity, offer_price, currency, sequence, status, .. } = offer;
    let (does, status) = (offers::side(*side), status.as_str());
    format!("{does} {btc_quantity} BTC at {offer_price} {currency}, {status}, sequence {sequence}")
}

/// For the problems of a node that is newer than this program.
const LOOK_AT_THE_FORM: &str = "change the request and try again; `--help` shows the form";

/// What to do about a problem of what has the id `about`.
fn next_step(code: &str, about: &str) -> Option<String> {
    let id = if about.is_empty() { "ID" } else { about };
    let about_it = match code {
        "terms_mismatch" => {
            format!(
                "look at `vintner offers show {id}` again: it has changed, or its maker sent you another one"
            )
        }
        "own_offer" => {
            format!(
                "bid from another node (--api), or withdraw the offer with `vintner offers withdraw {id}`"
            )
        }
        "sequence_mismatch" => format!("look at `vintner offers show {id}` and decide anew"),
        "terms_changed" => format!(
            "look at `vintner offers show {id}`, decide anew, and bid with --if-sequence and the sequence that it shows"
        ),
        "offer_closed" => format!("`vintner offers show {id}` shows what became of it"),
        "bid_answered" => format!("`vintner bids show {id}` shows the answer"),
        "give_up_too_early" => {
            format!(
                "the node goes on asking the maker; `vintner bids show {id}` says from when it can be given up"
            )
        }
        _ => return next_step_anyway(code).map(Into::into),
    };
    Some(about_it)
}

/// The same where it does not matter what it was about.
fn next_step_anyway(code: &str) -> Option<&'static str> {
    Some(match code {
        "offer_not_found" => {
            "look at `vintner offers list`; an offer that was just made needs a moment to arrive"
        }
        "offer_not_available" => "choose another one from `vintner offers list`",
        "ambiguous" => {
            "choose another maker's from `vintner offers list`, or name one by its hash to look at it"
        }
        "acceptance_unknown" => "bid with a newer version of this program, or choose another offer",
        "bid_expired" => "bid again, firm for longer (--valid-for); `vintner doctor` compares the clocks",
        "invalid_bid" => "`vintner doctor` compares this machine's clock with others'",
        "refused" => "choose another offer; a newer version of this program may know the reason",
        "id_reuse" => "bid again: a new bid has an id of its own",
        "price_below_ask" | "price_above_offer" => "bid the offer's own price: leave --price out",
        "not_own_offer" => "withdraw it on its maker's node",
        "bid_not_found" => {
            "ask the node that made the bid, with its --api; `vintner bids list` shows what this node knows"
        }
        "trade_not_found" => "look at `vintner trades list`",
        "above_max_notional" => "make it smaller, or start the node with a higher --max-notional",
        "idempotency_key_reuse" => "choose another --idempotency-key for another request",
        "unauthorized" | "wrong_token" => "give the node's token: --token-file DATA_DIR/api-token",
        "foreign_host" | "foreign_origin" => {
            "use the address that the node listens on: --api http://127.0.0.1:4000"
        }
        "foreign_peer" => {
            "ask from the machine that runs the container, or name the forwarder with VINTNER_API_PUBLISHED_FROM"
        }
        "not_alone" => "look at `vintner status`",
        "store_behind" => "restore the newest data directory, or run `vintner recover`",
        "storage_full" => "free some space on the node's disk and try again",
        "busy" | "stopping" | "not_ready" | "not_synced" | "internal" | "body_timeout" => {
            "try again in a moment"
        }
        "limit_reached" | "maker_limit_reached" => {
            "see the limit above; `vintner status` shows how the node stands"
        }
        "malformed_json" | "invalid_query" | "invalid_header" | "invalid_id" | "validation_failed" => {
            "correct what is named above; `--help` shows the form"
        }
        "bad_request" | "not_found" | "method_not_allowed" | "unsupported_media_type" | "body_too_large" => {
            "use the same version of this program as the node's; check --api"
        }
        _ => return None,
    })
}

/// No answer that says anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoAnswer {
    /// Nobody there.
    #[error(
        "no node answers at {api} ({reason}); start one with `vintner node` or `vintner devnet`, or name it with --api"
    )]
    Unreachable { api: Url, reason: String },
    /// The connection broke, or time is up.
    #[error("the node at {api} did not answer: {reason}; {next}")]
    Silent { api: Url, reason: String, next: String },
    /// Somebody else's answer.
    #[error("{api} {says}, not like a vintner node of this version; check --api")]
    Foreign { api: Url, says: String },
}

/// What the system said; the HTTP client's own words only repeat the address.
fn root_cause(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return format!("no answer within {} s", ANSWER_WITHIN.as_secs());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// A client of one node.
pub(crate) struct Client {
    base: Url,
    token: Option<String>,
    http: reqwest::Client,
    /// Whether answers are printed as JSON.
    pub(crate) json: bool,
    /// How the same node is asked by another command.
    pub(crate) reach: Reach,
}

impl Client {
    pub(crate) fn new(args: &ClientArgs) -> Result<Self> {
        let token = match (&args.token, &args.token_file) {
            (Some(token), _) => Some(token.clone()),
            (None, Some(file)) => Some(read_token(file)?),
            (None, None) => None,
        };
        Ok(Self { reach: Reach::of(args), ..Self::at(&args.api, token, args.json)? })
    }

    /// A client of the node whose API is at `api`.
    pub(crate) fn at(api: &str, token: Option<String>, json: bool) -> Result<Self> {
        let with_scheme = if api.contains("://") { api.to_owned() } else { format!("http://{api}") };
        let base = Url::parse(&with_scheme)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .with_context(|| format!("--api {api:?} is not a URL; write it as http://127.0.0.1:4000"))
            .map_err(WrongUsage::of)?;
        // An error means that one is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(ANSWER_WITHIN)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .context("the HTTP client did not start; check the system's certificates")?;
        Ok(Self { base, token, http, json, reach: Reach::default() })
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, String)]) -> Result<T> {
        let mut url = self.url(path)?;
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let request = self.http.request(Method::GET, url);
        Ok(self.send(request, "try again").await?.1)
    }

    /// Sends what changes something, once: `key` names it, so that it can be repeated without harm.
    pub(crate) async fn post<T: DeserializeOwned, B: Serialize>(
        &self,
        path: &str,
        body: &B,
        key: &str,
    ) -> Result<(StatusCode, T)> {
        self.post_if(path, body, key, None).await
    }

    /// The same, only while what it is about still has this sequence.
    pub(crate) async fn post_if<T: DeserializeOwned, B: Serialize>(
        &self,
        path: &str,
        body: &B,
        key: &str,
        if_match: Option<u64>,
    ) -> Result<(StatusCode, T)> {
        let mut request = self.http.request(Method::POST, self.url(path)?).json(body);
        if let Some(sequence) = if_match {
            request = request.header("if-match", format!("\"{sequence}\""));
        }
        let next = format!("it may have been carried out; repeat it safely with --idempotency-key {key}");
        self.send(request.header("idempotency-key", key), &next).await
    }

    pub(crate) async fn post_plain<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let request = self.http.request(Method::POST, self.url(path)?).json(&serde_json::json!({}));
        Ok(self.send(request, "repeating it does no harm").await?.1)
    }

    pub(crate) async fn delete<T: DeserializeOwned>(&self, path: &str, if_match: Option<u64>) -> Result<T> {
        let mut request = self.http.request(Method::DELETE, self.url(path)?);
        if let Some(sequence) = if_match {
            request = request.header("if-match", format!("\"{sequence}\""));
        }
        Ok(self.send(request, "repeating it does no harm").await?.1)
    }

    fn url(&self, path: &str) -> Result<Url> {
        self.base.join(path).with_context(|| format!("{path:?} cannot be asked for; check the id"))
    }

    async fn send<T: DeserializeOwned>(
        &self,
        request: reqwest::RequestBuilder,
        next: &str,
    ) -> Result<(StatusCode, T)> {
        let request = match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let request = request.build().context("the request cannot be sent; check the arguments")?;
        let about = id_in(request.url().path());
        let api = || self.base.clone();
        let silent =
            |error| NoAnswer::Silent { api: api(), reason: root_cause(&error), next: next.to_owned() };
        let response = self.http.execute(request).await.map_err(|error| {
            if error.is_connect() {
                NoAnswer::Unreachable { api: api(), reason: root_cause(&error) }
            } else {
                silent(error)
            }
        })?;
        let status = response.status();
        let text = response.text().await.map_err(silent)?;
        if status.is_success() {
            let says = "answers something else".to_owned();
            let answer = serde_json::from_str(&text).map_err(|_| NoAnswer::Foreign { api: api(), says })?;
            return Ok((status, answer));
        }
        match serde_json::from_str(&text) {
            Ok(problem) => Err(Refused { problem: Box::new(problem), about, json: self.json }.into()),
            Err(_) => Err(NoAnswer::Foreign { api: api(), says: format!("answers {status}") }.into()),
        }
    }
}

/// What `/api/v1/offers/ID/bids` is about.
fn id_in(path: &str) -> String {
    let parts = path.strip_prefix("/api/v1/").unwrap_or_default().split('/');
    parts.skip(1).find(|part| id(part).is_ok()).unwrap_or_default().to_owned()
}

/// One part of a path, so that an id can never become another path.
pub(crate) fn id(text: &str) -> Result<String, String> {
    let fits =
        !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    if fits { Ok(text.to_owned()) } else { Err("is neither a UUID nor a hash of 40 hex digits".into()) }
}

/// `90s`, `5m`, `24h`, `7d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "is no duration; write a number and s, m, h or d, such as 90s or 24h".to_owned();
    let at = text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at)).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    let number: u32 = number.parse().map_err(|_| wrong())?;
    Ok(Duration::from_secs(u64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shown::payloads::{PAYLOADS, assert_harmless};

    #[test]
    fn every_problem_has_advice_of_its_own() {
        for code in crate::http::api::Code::ALL {
            assert!(next_step(code.as_str(), "").is_some(), "{}", code.as_str());
        }
    }

    fn refused(code: &str, detail: &str, about: &str) -> Refused {
        let problem = serde_json::json!({
            "type": "", "title": "", "status": 409, "detail": detail, "code": code, "retryable": false,
            "errors": [{ "pointer": detail, "detail": detail }]});
        let problem = Box::new(serde_json::from_value(problem).unwrap());
        Refused { problem, about: about.into(), json: false }
    }

    #[test]
    fn advice_names_what_was_asked_about() {
        let id = id_in("/api/v1/offers/01a1fc28-3e5f-7000-80fe-3be73643e1da/bids");
        let told = refused("terms_mismatch", "no", &id).told(&Reach::default());
        assert!(told.contains("`vintner offers show 01a1fc28-3e5f-7000-80fe-3be73643e1da`"), "{told}");
        assert_eq!(id_in("/api/v1/bids"), "");
    }

    #[test]
    fn a_problem_that_repeats_what_a_stranger_wrote_stays_on_its_lines() {
        for payload in PAYLOADS {
            let told = refused(payload, payload, "").told(&Reach::default());
            assert_eq!(told.lines().count(), 3, "{told:?}");
            told.lines().for_each(assert_harmless);
        }
    }

    #[test]
    fn durations_and_ids_are_read_strictly() {
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        assert_eq!(duration("7d"), Ok(Duration::from_hours(7 * 24)));
        for bad in ["", "5", "m", "5 m", "-5m", "5é", "1.5h"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert!(id("0192d3a0-0000-7000-8000-000000000000").is_ok());
        for bad in ["", "..", "a/b", "x?y"] {
            assert!(id(bad).is_err(), "{bad}");
        }
    }
}
