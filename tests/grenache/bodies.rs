//! What our service answers to bodies that no Grenache client sends.

use crate::{
    rings::{Example, VERSIONS, serve},
    support::{PATIENCE, Process, stock},
};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use serde_json::{Value, json};
use std::{
    io::{Read, Write},
    net::SocketAddr,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use vintner::grenache::service::{Call, Reply};

/// Sends `head` (without Host and Content-Length) and `body`; the body of the answer, which has status 200 and neither a type nor
/// an encoding.
async fn exchange(address: SocketAddr, head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("{head}\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    raw(address, &[head.as_bytes(), body].concat()).await
}

async fn raw(address: SocketAddr, request: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.expect("an answer in time").unwrap();
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    assert!(head.starts_with("http/1.1 200 ") || head.starts_with("http/1.0 200 "), "{head}");
    assert!(!head.contains("content-type") && !head.contains("content-encoding"), "{head}");
    answer.split_off(end + 4)
}

fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn unpacked(bytes: &[u8]) -> Vec<u8> {
    let mut unpacked = Vec::new();
    GzDecoder::new(bytes).read_to_end(&mut unpacked).expect("what asks for gzip gets gzip");
    unpacked
}

/// `[rid, error, result]`, and nothing else.
fn elements(answer: &[u8]) -> [Value; 3] {
    let answer: Vec<Value> = serde_json::from_slice(answer).expect("an array");
    answer.try_into().expect("three elements")
}

/// Bodies that are no `[rid, key, payload]`.
fn malformed() -> Vec<Vec<u8>> {
    let deep = "[".repeat(100_000);
    let long_rid = format!(r#"["{}","key",1]"#, "r".repeat(1000));
    let long_key = format!(r#"["rid","{}",1]"#, "k".repeat(2000));
    let texts = [
        "5",
        "-1e999",
        "null",
        "true",
        r#""x""#,
        r#""""#,
        "{}",
        r#"{"0":"rid","1":"key"}"#,
        "[]",
        "",
        " ",
        "\u{feff}",
        "\u{feff}[\"rid\",\"key\",1]",
        "[",
        "]",
        "[\"rid\",",
        "[\"rid\",\"key\",1",
        "[\"rid\",\"key\",1]x",
        "[\"rid\",5,1]",
        "[\"rid\",{},1]",
        "[\"rid\",null,1]",
        "undefined",
        "NaN",
        "'x'",
        "[,,]",
        &deep,
        &long_rid,
        &long_key,
    ];
    let mut bodies: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    bodies.push(vec![0xff, 0xfe, 0x00]);
    bodies.push(b"[\"rid\",\"\xff\",1]".to_vec());
    bodies.push(vec![b'['; 200_000]);
    bodies.push(packed(b"[\"rid\",\"key\",1]"));
    bodies
}

/// Statement 49: whatever a body is, the answer is an array of three elements whose second says what is wrong.
#[tokio::test]
async fn malformed_bodies_are_answered_with_three_elements() {
    let service = serve(async |_: Call| Reply::error("not reached")).await;
    let address = service.local_addr();
    for body in malformed() {
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        let [rid, error, result] = elements(&exchange(address, "POST / HTTP/1.1", &body).await);
        assert_eq!((rid, result), (Value::Null, Value::Null), "{shown}");
        assert!(error.as_str().unwrap().starts_with("ERR_RPC_FRAME: "), "{shown}: {error}");
    }
    // Without a body at all, and with a method that has none.
    for line in ["POST / HTTP/1.1", "GET /x HTTP/1.1", "DELETE / HTTP/1.0"] {
        let request = format!("{line}\r\nhost: x\r\nconnection: close\r\n\r\n");
        let [_, error, _] = elements(&raw(address, request.as_bytes()).await);
        assert!(error.as_str().unwrap().starts_with("ERR_RPC_FRAME: "), "{line}: {error}");
    }
}

/// Statement 49: a body that says it is gzip and is not, or not all of it, is answered in gzip with three elements.
#[tokio::test]
async fn malformed_gzip_is_answered_with_three_packed_elements() {
    let service = serve(async |call: Call| Reply::of(&call.key)).await;
    let address = service.local_addr();
    let head = "POST / HTTP/1.1\r\ngrc-compress: gzip";
    let frame = br#"["rid","key",1]"#;
    let good = packed(frame);
    let mut wrong_sum = good.clone();
    let at = wrong_sum.len() - 8;
    wrong_sum[at] ^= 1;
    for body in [&good[..good.len() - 1], &good[..10], &good[..1], &wrong_sum, b"", b"5", b"null"] {
        let [rid, error, result] = elements(&unpacked(&exchange(address, head, body).await));
        assert_eq!((rid, result), (Value::Null, Value::Null));
        assert!(error.as_str().unwrap().starts_with("ERR_RPC_FRAME: "), "{error}");
    }
    for body in malformed().into_iter().take(40) {
        elements(&unpacked(&exchange(address, head, &packed(&body)).await));
    }
    // As a stock service does, a frame that is not packed after all is taken, and its answer packed.
    for body in [&good[..], frame] {
        assert_eq!(
            elements(&unpacked(&exchange(address, head, body).await)),
            [json!("rid"), Value::Null, json!("key")]
        );
    }
}

/// Statement 49: a `_gr` header or stream headers that are no JSON.
#[tokio::test]
async fn malformed_headers_are_answered_with_three_elements() {
    let service = serve(Example).await;
    let address = service.local_addr();
    let frame = br#"["rid","key",1]"#;
    for gr in ["x", "{}", "5", "[", "\"rid\"", "[{}", "[1,2]", "null"] {
        for chunked in [false, true] {
            let head = format!("POST / HTTP/1.1\r\n_gr: {gr}");
            let answer = if chunked {
                let head =
                    format!("{head}\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n");
                raw(address, format!("{head}3\r\nabc\r\n0\r\n\r\n").as_bytes()).await
            } else {
                exchange(address, &head, frame).await
            };
            let [rid, error, _] = elements(&answer);
            assert_eq!(rid, Value::Null, "{gr}");
            assert!(error.as_str().unwrap().starts_with("ERR_RPC_FRAME: "), "{gr}: {error}");
        }
    }
    // What is false to JavaScript overrides nothing.
    for (gr, rid, key) in [
        (r#"["other","name"]"#, "other", "name"),
        (r#"["other"]"#, "other", "key"),
        (r#"[null,"name"]"#, "rid", "name"),
        (r#"["",0]"#, "rid", "key"),
        ("[]", "rid", "key"),
    ] {
        let head = format!("POST / HTTP/1.1\r\n_gr: {gr}");
        let [found, error, result] = elements(&exchange(address, &head, frame).await);
        assert_eq!((found, error, &result["key"]), (json!(rid), Value::Null, &json!(key)), "{gr}");
    }
}

#[tokio::test]
async fn any_path_method_type_and_framing_is_served_and_more_elements_are_ignored() {
    let service = serve(Example).await;
    let address = service.local_addr();
    let frame = br#" [ {"any":"id"} , "key" , "payload", "more", 5 ] "#;
    for head in [
        "POST / HTTP/1.1",
        "POST /any/path?x=1 HTTP/1.1",
        "PUT / HTTP/1.1",
        "GET / HTTP/1.1",
        "POST / HTTP/1.0",
        "POST / HTTP/1.1\r\ncontent-type: text/plain;charset=UTF-8\r\naccept-encoding: gzip,deflate",
        "POST / HTTP/1.1\r\ncontent-type: application/x-www-form-urlencoded\r\ngrc-compress: none",
    ] {
        let [rid, error, result] = elements(&exchange(address, head, frame).await);
        assert_eq!(
            (rid, error, &result["payload"]),
            (json!({"any": "id"}), Value::Null, &json!("payload")),
            "{head}"
        );
    }
    let (one, two) = frame.split_at(20);
    let mut chunked =
        b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for chunk in [one, two, b""] {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    let [_, error, result] = elements(&raw(address, &chunked).await);
    assert_eq!((error, &result["payload"]), (Value::Null, &json!("payload")));
    // Ids are echoed as they were written.
    for rid in ["null", "5", "1.50", r#""\u00e9""#, "[1, 2]"] {
        let answer = exchange(address, "POST / HTTP/1.1", format!("[{rid},\"key\"]").as_bytes()).await;
        assert!(answer.starts_with(format!("[{rid},").as_bytes()), "{}", String::from_utf8_lossy(&answer));
    }
}

/// Statement 49: why: a stock client's process ends at a reply that is JSON and no array, and never at one of ours.
#[tokio::test]
async fn stock_clients_survive_every_answer_to_what_they_can_send() {
    let ring = crate::rings::Ring::of_ours().await;
    let service = serve(async |call: Call| match call.read::<String>().as_deref() {
        Ok("too long") => Reply::of(&"x".repeat(vintner::grenache::wire::FRAME_BYTES_MAX)),
        Ok("a map without strings") => Reply::of(&std::collections::BTreeMap::from([((1, 2), 3)])),
        _ => Reply::of(&()),
    })
    .await;
    ring.announce("rpc:odd", service.local_addr().port()).await;
    let call = |payload: &str| json!({"do": "request", "payload": payload, "options": {}});
    let too_much = "y".repeat(2 * vintner::grenache::wire::FRAME_BYTES_MAX);
    for version in VERSIONS {
        let calls = json!([call("too long"), call("a map without strings"), call("")]).to_string();
        let mut client: Process = stock("rpc-client.js", &[version, &ring.url(), "rpc:odd", &calls, "null"]);
        for expected in [json!("ERR_RPC_REPLY: "), json!("ERR_RPC_REPLY: "), Value::Null] {
            let error = client.event("reply").await["error"].clone();
            let same = match expected.as_str() {
                Some(start) => error.as_str().is_some_and(|error| error.starts_with(start)),
                None => error.is_null(),
            };
            assert!(same, "{version}: {error}");
        }
    }
    let body = format!(r#"["rid","rpc:odd","{too_much}"]"#);
    let head =
        format!("POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    let [_, error, _] = elements(&raw(service.local_addr(), head.as_bytes()).await);
    assert!(error.as_str().unwrap().starts_with("ERR_RPC_SIZE: "), "{error}");
}
