//! Signed RPC over real sockets: what is answered, what is refused, and what counts as no answer at all.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail like tests")]

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, value::RawValue};
use std::{
    io::{Read, Write},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use vintner::{
    grenache::{
        address::AddressPolicy,
        caller::RequestError,
        client::{CallError, Client, ClientConfig},
        envelope::{BODY_BYTES_MAX, ReplyError, RpcRefusal, SignedReply, SignedRequest, code},
        rate::Rate,
        server::{self, Commands, ServerConfig},
        service, wire,
    },
    identity::{KeyPair, Network},
    listener::Serving,
    time::UnixMillis,
    workers::Workers,
};

const NOW: UnixMillis = UnixMillis(1_795_262_400_000);

fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}
fn net() -> Network {
    "test".parse().unwrap()
}

/// A server with key 2 whose clock is `skew_ms` ahead of [`NOW`].
async fn start_with(skew_ms: u64, rate: Rate) -> Serving {
    let commands = Commands::default()
        .on("echo", |request, _| async move { Ok(request.body().to_owned()) })
        .on("refuse", |_, _| async { Err(RpcRefusal::new("price_below_ask", "ask 7, bid 6", false)) });
    let clock = Arc::new(move || NOW.plus(Duration::from_millis(skew_ms)));
    let known = Arc::default();
    let config = ServerConfig { network: net(), key: key(2), clock, rate, known, limits: service::LIMITS };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    server::serve(listener, config, commands, Workers::start(1).unwrap()).unwrap()
}
async fn start() -> Serving {
    start_with(0, service::RATE).await
}

fn client_with(timeout: Duration, allow_private: bool) -> Client {
    let config = ClientConfig { network: net(), policy: AddressPolicy { allow_private }, timeout };
    Client::new(config, Workers::start(1).unwrap()).unwrap()
}
fn client() -> Client {
    client_with(Duration::from_secs(5), true)
}

async fn call(address: SocketAddr, cmd: &str, body: &str) -> Result<Result<String, RpcRefusal>, CallError> {
    let reply = client().call_signed(address, &key(1), key(2).public(), cmd, body, || NOW).await;
    reply.map(|reply| reply.outcome)
}

/// One HTTP exchange by hand; the answer's body.
async fn exchange(address: SocketAddr, head: &str, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    answer.split_off(end + 4)
}
async fn exchange_json(address: SocketAddr, head: &str, body: &[u8]) -> Value {
    serde_json::from_slice(&exchange(address, head, body).await).unwrap()
}

fn frame(request: &SignedRequest, key: &str) -> String {
    format!(r#"["rid-1","{key}",{}]"#, request.to_payload().unwrap())
}
fn echo_request() -> SignedRequest {
    SignedRequest::sign(&net(), &key(1), key(2).public(), "echo", "hello".into(), NOW).unwrap()
}

#[tokio::test]
async fn a_signed_call_is_answered_and_a_refusal_arrives_as_one() {
    let server = start().await;
    let address = server.local_addr();
    assert_eq!(call(address, "echo", "hello \"wörld\"").await.unwrap().unwrap(), "hello \"wörld\"");
    let refusal = call(address, "refuse", "").await.unwrap().unwrap_err();
    assert_eq!(
        (&*refusal.code, &*refusal.detail, refusal.retryable),
        ("price_below_ask", "ask 7, bid 6", false)
    );
    let unknown = call(address, "nothing", "").await.unwrap().unwrap_err();
    assert_eq!(unknown.code, code::UNKNOWN_COMMAND);
    let largest = "x".repeat(BODY_BYTES_MAX);
    assert_eq!(call(address, "echo", &largest).await.unwrap().unwrap(), largest);
    server.shutdown().await;
}

#[tokio::test]
async fn the_error_string_and_the_signed_object_stand_side_by_side() {
    let server = start().await;
    let request =
        SignedRequest::sign(&net(), &key(1), key(2).public(), "refuse", String::new(), NOW).unwrap();
    let answer =
        exchange_json(server.local_addr(), "POST / HTTP/1.1", frame(&request, "test").as_bytes()).await;
    assert_eq!(answer[0], "rid-1");
    assert_eq!(answer[1], "PRICE_BELOW_ASK: ask 7, bid 6");
    assert_eq!(answer[2]["error"]["code"], "price_below_ask");
    assert!(answer[2]["sig"].is_string() && answer[2]["from"] == key(2).public().to_string());
}

#[tokio::test]
async fn any_path_and_method_chunks_gzip_and_the_gr_header_are_understood() {
    let server = start().await;
    let address = server.local_addr();
    let frame = frame(&echo_request(), &key(2).public().to_string());
    for head in ["POST /any/path?x HTTP/1.1", "PUT / HTTP/1.1", "POST / HTTP/1.1\r\ncontent-type: text/plain"]
    {
        assert_eq!(exchange_json(address, head, frame.as_bytes()).await[2]["body"], "hello", "{head}");
    }
    let other_rid = "POST / HTTP/1.1\r\n_gr: [\"other\",\"test\"]";
    assert_eq!(exchange_json(address, other_rid, frame.as_bytes()).await[0], "other");

    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(frame.as_bytes()).unwrap();
    let head = "POST / HTTP/1.1\r\ngrc-compress: gzip";
    let answer = exchange(address, head, &gzip.finish().unwrap()).await;
    let mut text = String::new();
    GzDecoder::new(&answer[..]).read_to_string(&mut text).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap()[2]["body"], "hello");

    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let (one, two) = frame.split_at(40);
    let chunked = format!("{head}{:x}\r\n{one}\r\n{:x}\r\n{two}\r\n0\r\n\r\n", one.len(), two.len());
    stream.write_all(chunked.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""body":"hello""#), "{answer}");
    assert!(!answer.contains("content-type"), "stock services send none: {answer}");
}

#[tokio::test]
async fn what_is_no_signed_request_gets_an_error_array_at_once() {
    let server = start().await;
    let address = server.local_addr();
    let head = "POST / HTTP/1.1";
    for body in ["", "garbage", "{}", "5", "null", "[]", "\u{feff}[]"] {
        let answer = exchange_json(address, head, body.as_bytes()).await;
        assert_eq!(answer[0], Value::Null, "{body}");
        assert!(answer[1].as_str().unwrap().starts_with("ERR_RPC_FRAME: "), "{body}");
    }
    let stock = exchange_json(address, head, br#"["r1","test",{"length":4}]"#).await;
    assert_eq!(stock[0], "r1");
    assert!(stock[1].as_str().unwrap().starts_with("ERR_RPC_UNSIGNED: this node takes signed requests only"));
    let other = exchange_json(address, head, frame(&echo_request(), "somebody").as_bytes()).await;
    assert!(other[1].as_str().unwrap().starts_with("ERR_RPC_KEY: "));
}

#[tokio::test]
async fn oversize_is_refused_before_and_after_unpacking() {
    let server = start().await;
    let address = server.local_addr();
    let too_long = BODY_BYTES_MAX + 1;
    let unsendable = call(address, "echo", &"x".repeat(too_long)).await.unwrap_err();
    assert!(unsendable.never_sent(), "{unsendable}");

    // The head alone is enough to be refused.
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 999999999\r\n\r\n").await.unwrap();
    let mut answer = [0; 512];
    let length = stream.read(&mut answer).await.unwrap();
    assert!(String::from_utf8_lossy(&answer[..length]).contains("ERR_RPC_SIZE"));

    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    gzip.write_all(&vec![b' '; 64 * wire::FRAME_BYTES_MAX]).unwrap();
    let mut bomb = gzip.finish().unwrap();
    // Its end is missing: whoever unpacks all of it finds no gzip, whoever stops at the bound finds it too long.
    bomb.truncate(bomb.len() - 100);
    assert!(bomb.len() < wire::FRAME_BYTES_MAX);
    let answer = exchange(address, "POST / HTTP/1.1\r\ngrc-compress: gzip", &bomb).await;
    let mut text = String::new();
    GzDecoder::new(&answer[..]).read_to_string(&mut text).unwrap();
    assert!(text.contains("ERR_RPC_SIZE"), "{text}");
}

#[tokio::test]
async fn another_nodes_request_a_bad_signature_and_a_wrong_network_are_refused() {
    let server = start().await;
    let address = server.local_addr();
    let code_of = async |request: SignedRequest| {
        let frame = frame(&request, "test");
        exchange_json(address, "POST / HTTP/1.1", frame.as_bytes()).await[2]["error"]["code"].clone()
    };
    let sign = |network: &str, to: u8| {
        let network = network.parse().unwrap();
        SignedRequest::sign(&network, &key(1), key(to).public(), "echo", "x".into(), NOW).unwrap()
    };
    assert_eq!(code_of(sign("test", 3)).await, code::WRONG_RECIPIENT);
    assert_eq!(code_of(sign("other", 2)).await, code::BAD_SIGNATURE);
    let forged = sign("test", 2).to_payload().unwrap().get().replace("\"x\"", "\"y\"");
    let forged = SignedRequest::parse(&RawValue::from_string(forged).unwrap()).unwrap();
    assert_eq!(code_of(forged).await, code::BAD_SIGNATURE);

    // To the caller the answer of another node than the one it asked is none.
    let error = client().call(address, "test", &sign("test", 3)).await.unwrap_err();
    let CallError::NotBelieved { reason, .. } = error else { panic!("{error}") };
    assert_eq!(reason, ReplyError::WrongSigner { found: key(2).public() });
}

#[tokio::test]
async fn a_sender_whose_clock_is_wrong_signs_once_more_by_the_receivers() {
    for skew_ms in [61_000, 86_400_000] {
        let server = start_with(skew_ms, service::RATE).await;
        assert_eq!(call(server.local_addr(), "echo", "late").await.unwrap().unwrap(), "late");
        let request = echo_request();
        let reply = client().call(server.local_addr(), "test", &request).await.unwrap();
        assert_eq!(reply.outcome.unwrap_err().code, code::STALE_REQUEST);
        assert_eq!(reply.at, NOW.plus(Duration::from_millis(skew_ms)));
    }
}

#[tokio::test]
async fn a_source_that_asks_too_often_is_told_so_without_a_signature() {
    let server = start_with(0, Rate { per_second: 1, burst: 3 }).await;
    for _ in 0..3 {
        assert!(call(server.local_addr(), "echo", "x").await.unwrap().is_ok());
    }
    let error = call(server.local_addr(), "echo", "x").await.unwrap_err();
    let CallError::NotBelieved { reason: ReplyError::NotSigned, said: Some(said), .. } = error else {
        panic!("{error}");
    };
    assert!(said.starts_with("ERR_RPC_RATE: "), "{said}");
}

/// A server that answers every request with what `reply` makes of it, after `delay`.
async fn fake(delay: Duration, reply: impl Fn(&str, SignedRequest) -> String + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = Vec::new();
            let frame = loop {
                let mut chunk = [0; 4096];
                let length = stream.read(&mut chunk).await.unwrap();
                request.extend_from_slice(&chunk[..length]);
                let body = request.windows(4).position(|w| w == b"\r\n\r\n").map(|end| &request[end + 4..]);
                if let Some(frame) = body.and_then(|body| wire::parse_request(body, None).ok()) {
                    break frame;
                }
            };
            tokio::time::sleep(delay).await;
            let answer = reply(frame.rid.as_json(), SignedRequest::parse(&frame.payload).unwrap());
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}
fn http(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}
fn sign_reply(seed: u8, request: &SignedRequest, body: &str) -> Box<RawValue> {
    let reply = SignedReply::sign(&net(), &key(seed), &request.digest(), NOW, Ok(body.to_owned())).unwrap();
    reply.into_elements().unwrap().1
}

#[tokio::test]
async fn forged_replies_count_as_no_answer() {
    type Forge = fn(&str, SignedRequest) -> String;
    let cases: [(&str, Forge); 10] = [
        ("unsigned", |rid, _| format!(r#"[{rid},null,{{"body":"yes"}}]"#)),
        ("unsigned text", |rid, _| format!(r#"[{rid},null,"yes"]"#)),
        ("unsigned error", |rid, _| format!(r#"[{rid},"OFFER_NOT_AVAILABLE: sold",null]"#)),
        ("signed by a stranger", |rid, request| format!("[{rid},null,{}]", sign_reply(3, &request, "yes"))),
        ("a stranger under the name", |rid, request| {
            let reply = sign_reply(3, &request, "yes")
                .get()
                .replace(&key(3).public().to_string(), &key(2).public().to_string());
            format!("[{rid},null,{reply}]")
        }),
        ("altered", |rid, request| {
            format!("[{rid},null,{}]", sign_reply(2, &request, "no").get().replace("\"no\"", "\"yes\""))
        }),
        ("for another request", |rid, _| format!("[{rid},null,{}]", sign_reply(2, &echo_request(), "yes"))),
        ("another id", |_, request| format!(r#"["x",null,{}]"#, sign_reply(2, &request, "yes"))),
        ("a bare object", |_, request| sign_reply(2, &request, "yes").to_string()),
        ("nothing", |_, _| String::new()),
    ];
    for (name, forge) in cases {
        let address = fake(Duration::ZERO, move |rid, request| http(&forge(rid, request))).await;
        let error = call(address, "take", "it").await.expect_err(name);
        assert!(
            matches!(
                error,
                CallError::NotBelieved { .. } | CallError::NoReply(RequestError::NotAReply { .. })
            ),
            "{name}: {error:?}"
        );
        assert!(!error.never_sent(), "{name}: it may have arrived");
    }
    let honest = |rid: &str, request| http(&format!("[{rid},null,{}]", sign_reply(2, &request, "yes")));
    let address = fake(Duration::ZERO, honest).await;
    assert_eq!(
        call(address, "take", "it").await.unwrap().unwrap(),
        "yes",
        "the forgeries differ from this only"
    );
}

#[tokio::test]
async fn a_forged_time_makes_nobody_sign_again() {
    let asked = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&asked);
    let address = fake(Duration::ZERO, move |rid, _| {
        counter.fetch_add(1, Ordering::Relaxed);
        let error = r#"{"code":"stale_request","detail":"","retryable":true}"#;
        let (from, sig) = (key(2).public(), "A".repeat(86));
        http(&format!(r#"[{rid},"E",{{"from":"{from}","at":1,"error":{error},"sig":"{sig}"}}]"#))
    })
    .await;
    assert!(matches!(call(address, "take", "it").await, Err(CallError::NotBelieved { .. })));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_slow_server_meets_the_deadline() {
    let address = fake(Duration::from_secs(30), |_, _| String::new()).await;
    let started = Instant::now();
    let error = client_with(Duration::from_millis(300), true)
        .call_signed(address, &key(1), key(2).public(), "echo", "x", || NOW)
        .await
        .unwrap_err();
    assert!(
        matches!(error, CallError::NoReply(RequestError::TimedOut { .. })) && !error.never_sent(),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn redirects_endless_replies_and_closed_ports_are_told_apart() {
    let goal = start().await.local_addr();
    let redirect = format!("HTTP/1.1 307 x\r\nlocation: http://{goal}/\r\ncontent-length: 0\r\n\r\n");
    let address = fake(Duration::ZERO, move |_, _| redirect.clone()).await;
    let error = call(address, "echo", "x").await.unwrap_err();
    assert!(error.to_string().contains("redirect"), "{error}");

    // Whoever waits for all of it is told that the connection broke.
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 999999999\r\n\r\n";
    let endless = format!("{head}{}", " ".repeat(2 * wire::FRAME_BYTES_MAX));
    let address = fake(Duration::ZERO, move |_, _| endless.clone()).await;
    let error = call(address, "echo", "x").await.unwrap_err();
    assert!(matches!(error, CallError::NoReply(RequestError::NotAReply { .. })), "{error}");

    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let error = call(closed, "echo", "x").await.unwrap_err();
    assert!(
        matches!(error, CallError::NoReply(RequestError::Unreachable { .. })) && error.never_sent(),
        "{error}"
    );
}

#[tokio::test]
async fn private_addresses_are_not_connected_to_unless_allowed() {
    let server = start().await;
    let mapped: SocketAddr = format!("[::ffff:127.0.0.1]:{}", server.local_addr().port()).parse().unwrap();
    for address in [server.local_addr(), mapped] {
        let error = client_with(Duration::from_secs(1), false)
            .call_signed(address, &key(1), key(2).public(), "echo", "x", || NOW)
            .await
            .unwrap_err();
        assert!(matches!(error, CallError::NoReply(RequestError::AddressRefused(_))), "{error}");
    }
}

#[tokio::test]
async fn a_chunked_reply_of_any_status_is_read_as_stock_servers_send_it() {
    let address = fake(Duration::ZERO, |rid, request| {
        let reply = format!("[{rid},null,{}]", sign_reply(2, &request, "yes"));
        let (one, two) = reply.split_at(20);
        let (n, m) = (one.len(), two.len());
        format!("HTTP/1.1 500 x\r\ntransfer-encoding: chunked\r\n\r\n{n:x}\r\n{one}\r\n{m:x}\r\n{two}\r\n0\r\n\r\n")
    })
    .await;
    assert_eq!(call(address, "take", "it").await.unwrap().unwrap(), "yes");
}
