//! `vintner healthcheck`: what a container engine asks every few seconds.
//!
//! One HTTP exchange by hand: the full client would read the system's certificates each time, for a question to loopback.

use super::{Exit, output};
use crate::{http::types::ReasonView, shown::harmless};
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How long the answer may take: a second less than the image's health check gives the whole command.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Answers are far shorter; a grape's metrics are about 10 KB.
const ANSWER_BYTES_MAX: u64 = 256 << 10;

/// Ask the node, or the grape, on this machine whether it can do its work
///
/// For health checks of containers and supervisors. A node is asked whether it is ready to trade, a grape to look something up.
/// Exit codes: 0 healthy, 1 not healthy (the reason is printed), 2 wrong usage.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples: vintner healthcheck\n          vintner healthcheck --grape 127.0.0.1:30001"
)]
pub(crate) struct HealthcheckArgs {
    /// Where the node's API listens, as its own --api
    #[arg(long, env = "VINTNER_API", value_name = "ADDR:PORT", default_value = "127.0.0.1:4000")]
    api: SocketAddr,

    /// Where the node's API is published, as its own --api-published
    #[arg(long, env = "VINTNER_API_PUBLISHED", value_name = "ADDR:PORT")]
    api_published: Option<SocketAddr>,

    /// Ask a grape's HTTP API instead
    #[arg(long, value_name = "ADDR:PORT")]
    grape: Option<SocketAddr>,
}

pub(crate) async fn run(args: HealthcheckArgs) -> Result<Exit> {
    let ask = async {
        match args.grape {
            Some(grape) => ask_grape(reachable(grape)).await,
            None => ask_node(reachable(args.api), args.api_published).await,
        }
    };
    let answer = tokio::time::timeout(ANSWER_WITHIN, ask).await;
    output::print(&answer.with_context(|| format!("no answer within {} s", ANSWER_WITHIN.as_secs()))??)?;
    Ok(Exit::Done)
}

async fn ask_node(api: SocketAddr, published: Option<SocketAddr>) -> Result<String> {
    // A published API answers to the address at which it is published.
    let head = format!("GET /readyz HTTP/1.1\r\nhost: {}\r\n", published.unwrap_or(api));
    let (status, body) = exchange(api, head, "").await?;
    let told: Value = serde_json::from_str(&body).unwrap_or_default();
    let reasons: Vec<ReasonView> =
        told.get("reasons").and_then(|all| Vec::deserialize(all).ok()).unwrap_or_default();
    match (status, told.get("detail").and_then(Value::as_str)) {
        (200, _) => Ok(format!("the node is ready\n{}", list(&reasons))),
        (_, Some(_)) if !reasons.is_empty() => {
            // What to do about the gravest comes last, as the advice of every error does.
            bail!("the node is not ready\n{}; {}", list(&reasons).trim_end(), reasons[0].advice)
        }
        (_, Some(detail)) => bail!("the node is not ready: {detail}"),
        (status, None) => bail!("{api} answers with status {status}, not like a vintner node; check --api"),
    }
}

/// The account of how the node stands, one line a reason.
fn list(reasons: &[ReasonView]) -> String {
    let line = |ReasonView { level, code, detail, .. }: &ReasonView| {
        let [level, code, detail] = [level, code, detail].map(|text| harmless(text));
        format!("{level} {code}: {detail}\n")
    };
    reasons.iter().map(line).collect()
}

async fn ask_grape(grape: SocketAddr) -> Result<String> {
    let body = r#"{"rid":"healthcheck","data":"healthcheck"}"#;
    let (status, answer) =
        exchange(grape, format!("POST /lookup HTTP/1.1\r\nhost: {grape}\r\n"), body).await?;
    match serde_json::from_str(&answer) {
        // Who offers the service does not matter; that the DHT was asked does.
        Ok(Value::Array(_)) if status == 200 => Ok("the grape answers\n".into()),
        _ => bail!("{grape} answers {status} {answer:.200}, not like a grape; check --grape"),
    }
}

/// An address that listens everywhere is asked here.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let loopback: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(loopback, address.port())
}

/// Sends a request by hand, `head` without its last headers; the answer's status and body.
pub(super) async fn exchange(address: SocketAddr, head: String, body: &str) -> Result<(u16, String)> {
    let request = format!("{head}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let answer = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = answer.await.with_context(|| format!("nothing answers at {address}; look at the log"))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((
        status.with_context(|| format!("{address} does not speak HTTP; check the address"))?,
        body.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        http::types::Time,
        shown::payloads::{PAYLOADS, assert_harmless},
        time::UnixMillis,
    };

    #[test]
    fn a_reason_is_one_line_whatever_it_says() {
        for payload in PAYLOADS {
            let text = || (*payload).to_owned();
            let (code, level, since) = (text(), text(), Time(UnixMillis(1_795_262_400_000)));
            let reason = ReasonView { code, level, since, meaning: text(), advice: text(), detail: text() };
            let told = list(&[reason]);
            assert_eq!(told.matches('\n').count(), 1, "{told:?}");
            told.lines().for_each(assert_harmless);
        }
    }

    #[test]
    fn an_address_that_listens_everywhere_is_asked_on_loopback() {
        for (given, asked) in
            [("0.0.0.0:4001", "127.0.0.1:4001"), ("[::]:4001", "[::1]:4001"), ("10.0.0.7:1", "10.0.0.7:1")]
        {
            assert_eq!(reachable(given.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
