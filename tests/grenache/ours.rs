//! Our callers and our services, without anybody else.

use crate::rings::{Example, caller, caller_with, payloads, raw, serve, shown};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::mpsc,
};
use vintner::grenache::{
    address::AddressPolicy,
    caller::{Caller, CallerConfig, MAP_MAX, Named, RequestError},
};

#[tokio::test]
async fn requests_are_answered_plain_and_packed() {
    let service = serve(Example).await;
    for gzip in [false, true] {
        let caller = caller_with(CallerConfig { gzip, ..CallerConfig::default() });
        for payload in payloads() {
            let reply = caller.request(service.local_addr(), "größe", &raw(&payload)).await.unwrap();
            let expected = json!([null, {"key": "größe", "payload": payload, "client": null}]);
            assert_eq!(shown(&reply), expected);
        }
        let reply = caller.request(service.local_addr(), "k", &raw(&json!("fail"))).await.unwrap();
        assert_eq!(shown(&reply), json!(["ERR_EXAMPLE", null]));
        let reply = caller.request(service.local_addr(), "k", &raw(&json!("both"))).await.unwrap();
        assert_eq!(shown(&reply), json!(["ERR_EXAMPLE", "beside"]));
    }
}

#[tokio::test]
async fn a_stream_larger_than_any_frame_arrives_and_may_be_answered_before_it_ends() {
    let service = serve(Example).await;
    let megabytes = 3;
    let (sender, chunks) = mpsc::channel(2);
    let send = async move {
        for _ in 0..megabytes * 16 {
            sender.send(vec![b'x'; 64 * 1024].into()).await.unwrap();
        }
        sender.send("now".into()).await.unwrap();
        sender
    };
    let named = Named { key: "k", action: None, args: None };
    let caller = caller();
    let (reply, sender) = tokio::join!(caller.stream(service.local_addr(), named, chunks), send);
    // The answer is too long for a frame, and says so; the sender has not ended the stream yet.
    let error = shown(&reply.unwrap())[0].clone();
    assert!(error.as_str().unwrap().starts_with("ERR_RPC_REPLY: "), "{error}");
    drop(sender);

    let args = raw(&json!({"a": "größe\n\u{1f347}"}));
    let named = Named { key: "größe", action: Some("up"), args: Some(&args) };
    let (sender, chunks) = mpsc::channel(1);
    drop(sender);
    let reply = caller.stream(service.local_addr(), named, chunks).await.unwrap();
    assert_eq!(shown(&reply)[1]["args"], json!({"a": "größe\n\u{1f347}"}));
    assert_eq!(shown(&reply)[1]["key"], "größe");
}

/// Answers every connection with `answer` and the request's id in place of `RID`.
async fn fake(answer: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request[..length]).into_owned();
            let rid =
                text.rsplit_once("\r\n\r\n[").and_then(|(_, body)| body.split(',').next()).unwrap_or("null");
            let answer = answer.replace("RID", rid);
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// What `ask` sends, as head and body.
async fn sent(ask: impl AsyncFnOnce(SocketAddr)) -> (String, Vec<u8>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let read = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        loop {
            let mut chunk = [0; 4096];
            let length = stream.read(&mut chunk).await.unwrap();
            request.extend_from_slice(&chunk[..length]);
            let Some(end) = request.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(request[..end].to_vec()).unwrap().to_lowercase();
            let (body, stated) = (&request[end + 4..], head.split("content-length: ").nth(1));
            let stated = stated.map(|rest| rest.lines().next().unwrap().parse::<usize>().unwrap());
            if stated.map_or_else(|| body.ends_with(b"0\r\n\r\n"), |length| body.len() == length) {
                return (head, body.to_vec());
            }
        }
    };
    tokio::join!(read, ask(address)).0
}

/// A request's head names the service's address, how the body is packed, and how long it is; it asks for no encoding.
#[tokio::test]
async fn what_our_caller_sends_is_what_a_stock_client_sends() {
    let ids = |text: &str| text.split('"').find(|word| word.parse::<uuid::Uuid>().is_ok()).map(str::to_owned);
    let payload = raw(&json!({"a": 1}));
    let (head, body) = sent(async |address| drop(caller().request(address, "k", &payload).await)).await;
    assert!(head.starts_with("post / http/1.1\r\n") && head.contains("grc-compress: none"), "{head}");
    for absent in ["accept-encoding", "content-encoding", "transfer-encoding", "content-type", "_gr"] {
        assert!(!head.contains(absent), "{head}");
    }
    let text = String::from_utf8(body).unwrap();
    let rid = ids(&text).expect("an id");
    assert_eq!(text, format!(r#"["{rid}","k",{{"a":1}}]"#));

    let packing = caller_with(CallerConfig { gzip: true, ..CallerConfig::default() });
    let (head, body) = sent(async |address| drop(packing.request(address, "k", &payload).await)).await;
    assert!(head.contains("grc-compress: gzip") && !head.contains("content-encoding"), "{head}");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&body[..]), &mut text).unwrap();
    assert!(text.ends_with(r#""k",{"a":1}]"#), "{text}");

    let (head, body) = sent(async |address| {
        let (sender, chunks) = mpsc::channel(1);
        sender.send("hello".into()).await.unwrap();
        drop(sender);
        let named = Named { key: "k", action: Some("up"), args: Some(&payload) };
        drop(caller().stream(address, named, chunks).await);
    })
    .await;
    let rid = ids(&head).expect("an id");
    for line in [&format!(r#"_gr: ["{rid}","k"]"#), "_a: up", r#"_ar: {"a":1}"#, "transfer-encoding: chunked"]
    {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(!head.contains("grc-compress") && !head.contains("content-length"), "{head}");
    assert_eq!(body, b"5\r\nhello\r\n0\r\n\r\n");
}

#[tokio::test]
async fn replies_of_any_status_are_read_and_what_is_no_reply_is_none() {
    let ask = async |address| caller().request(address, "k", &raw(&json!(1))).await;
    for (answer, expected) in [
        ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[RID,null,1]", json!([null, 1])),
        ("HTTP/1.1 500 x\r\nconnection: close\r\n\r\n[RID,\"\",1,2]", json!([null, 1])),
        (
            "HTTP/1.1 404 x\r\ncontent-type: text/html\r\nconnection: close\r\n\r\n[RID,\"E\"]",
            json!(["E", null]),
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n[\r\n3c\r\nRID,null,{\"a\":\"0123456789\"}]\r\n0\r\n\r\n",
            Value::Null,
        ),
    ] {
        // A chunk's length depends on the id's; the fake's ids are 38 bytes.
        if expected.is_null() {
            let exact =
                answer.replace("3c\r\n", &format!("{:x}\r\n", 38 + ",null,{\"a\":\"0123456789\"}]".len()));
            let address = fake(Box::leak(exact.into_boxed_str())).await;
            assert_eq!(shown(&ask(address).await.unwrap()), json!([null, {"a": "0123456789"}]));
            continue;
        }
        assert_eq!(shown(&ask(fake(answer).await).await.unwrap()), expected, "{answer}");
    }
    for answer in [
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nnull",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n\"ERR\"",
        "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[\"other\",null,1]",
        "HTTP/1.1 302 x\r\nlocation: http://127.0.0.1/\r\nconnection: close\r\n\r\n[RID,null,1]",
    ] {
        let error = ask(fake(answer).await).await.unwrap_err();
        assert!(matches!(error, RequestError::NotAReply { .. }) && !error.never_sent(), "{answer}: {error}");
    }
    let plain = fake("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n[RID,null,1]").await;
    let packing = caller_with(CallerConfig { gzip: true, ..CallerConfig::default() });
    let error = packing.request(plain, "k", &raw(&json!(1))).await.unwrap_err();
    assert!(matches!(error, RequestError::NotAReply { .. }), "gzip was asked for: {error}");
}

#[tokio::test]
async fn one_of_many_is_asked_and_the_next_only_if_the_first_cannot_have_heard() {
    let nobody = caller().request_any(&[], "k", &raw(&json!(1))).await.unwrap_err();
    assert!(matches!(nobody, RequestError::Nobody) && nobody.never_sent(), "{nobody}");

    let service = serve(Example).await.local_addr();
    assert!(caller().request(service, "k", &raw(&json!(1))).await.is_err(), "a dropped service is gone");

    let service = serve(Example).await;
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    for _ in 0..20 {
        let reply =
            caller().request_any(&[gone, service.local_addr(), gone], "k", &raw(&json!(1))).await.unwrap();
        assert_eq!(shown(&reply)[1]["payload"], 1);
    }
    // One that answers nonsense has heard; nobody else is asked.
    let odd = fake("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}").await;
    let error = caller().request_any(&[odd, odd], "k", &raw(&json!(1))).await.unwrap_err();
    assert!(matches!(error, RequestError::NotAReply { .. }), "{error}");
}

#[tokio::test]
async fn a_map_asks_no_more_than_its_bound_and_connects_where_it_may_only() {
    let service = serve(Example).await;
    let many = vec![service.local_addr(); MAP_MAX + 5];
    let outcomes = caller().map(&many, "k", &raw(&json!(1))).await;
    assert_eq!(outcomes.len(), MAP_MAX);
    assert!(outcomes.iter().all(|(_, outcome)| outcome.is_ok()));

    let careful =
        Caller::new(CallerConfig { policy: AddressPolicy::default(), ..CallerConfig::default() }).unwrap();
    for (address, outcome) in careful.map(&many[..2], "k", &raw(&json!(1))).await {
        assert!(matches!(outcome, Err(RequestError::AddressRefused(refused)) if refused == address));
    }
}
