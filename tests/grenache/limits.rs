//! What a plain service puts up with.

use crate::rings::{Example, caller, raw, serve_with, shown};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use vintner::grenache::{
    caller::Named,
    rate::Rate,
    service::{Call, Refusal, Reply, Settings},
};

const NAMED: Named<'static> = Named { key: "k", action: None, args: None };

#[tokio::test]
async fn a_source_that_asks_too_often_is_told_so_by_request_and_by_stream() {
    let rate = Rate { per_second: 1, burst: 2 };
    let service = serve_with(Example, Settings { rate, ..Settings::default() }).await;
    for _ in 0..2 {
        let reply = caller().request(service.local_addr(), "k", &raw(&json!(1))).await.unwrap();
        assert_eq!(reply.error, None);
    }
    let reply = caller().request(service.local_addr(), "k", &raw(&json!(1))).await.unwrap();
    assert!(reply.error.as_deref().unwrap().starts_with(Refusal::RATE), "{reply:?}");
    let (sender, chunks) = mpsc::channel(1);
    let reply = caller().stream(service.local_addr(), NAMED, chunks).await.unwrap();
    assert!(reply.error.as_deref().unwrap().starts_with(Refusal::RATE), "{reply:?}");
    drop(sender);
}

#[tokio::test]
async fn a_handler_that_is_late_is_answered_for() {
    let settings = Settings { handler_timeout: Some(Duration::from_millis(100)), ..Settings::default() };
    let service = serve_with(async |_: Call| std::future::pending::<Reply>().await, settings).await;
    let started = Instant::now();
    let reply = caller().request(service.local_addr(), "k", &raw(&json!(1))).await.unwrap();
    assert!(reply.error.as_deref().unwrap().starts_with(Refusal::TIMEOUT), "{reply:?}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_stream_that_is_late_or_too_long_is_refused() {
    let settings = || Settings {
        stream_bytes_max: 10,
        stream_timeout: Duration::from_millis(200),
        ..Settings::default()
    };
    let service = serve_with(Example, settings()).await;
    let send = async |chunks: &[&'static str], end: bool| {
        let (sender, receiver) = mpsc::channel(8);
        for chunk in chunks {
            sender.send((*chunk).into()).await.unwrap();
        }
        let held = (!end).then_some(sender);
        let reply = caller().stream(service.local_addr(), NAMED, receiver).await.unwrap();
        drop(held);
        shown(&reply)
    };
    assert_eq!(send(&["0123456789"], true).await[1]["body"], "0123456789");
    let long = send(&["01234", "567890"], true).await;
    assert!(long[0].as_str().unwrap().starts_with(Refusal::SIZE), "{long}");
    let late = send(&["0123"], false).await;
    assert!(late[0].as_str().unwrap().starts_with(Refusal::TIMEOUT), "{late}");
}

#[tokio::test]
async fn a_stream_to_a_function_may_be_as_long_as_a_frame() {
    let service =
        serve_with(async |call: Call| Reply::of(&call.stream.unwrap().body.len()), Settings::default()).await;
    let max = vintner::grenache::wire::FRAME_BYTES_MAX;
    for (length, fits) in [(max, true), (max + 1, false)] {
        let (sender, chunks) = mpsc::channel(1);
        sender.send(vec![b'x'; length].into()).await.unwrap();
        drop(sender);
        let reply = caller().stream(service.local_addr(), NAMED, chunks).await.unwrap();
        if fits {
            assert_eq!(shown(&reply), json!([null, length]));
        } else {
            assert!(reply.error.as_deref().unwrap().starts_with(Refusal::SIZE), "{reply:?}");
        }
    }
}
