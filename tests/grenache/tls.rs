//! Mutual TLS with certificates for IP addresses.

use crate::{
    certificates::{Authority, Papers},
    rings::{
        Example, Ring, VERSIONS, caller, caller_with, local, raw, serve, serve_with, shown, stock_calls,
        stock_service,
    },
};
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use vintner::{
    grenache::{
        caller::{Caller, CallerConfig, Named},
        service::{self, Settings},
        tls,
    },
    listener::{Limits, Serving},
};

const HERE: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::LOCALHOST)];

async fn secured(authority: &Authority, server: &Papers) -> Serving {
    let tls = tls::server(server.identity(), Some(authority.pem.as_bytes())).unwrap();
    serve_with(Example, Settings { tls: Some(tls), ..Settings::default() }).await
}

fn caller_of(authority: &Authority, client: Option<&Papers>) -> Caller {
    let tls = tls::client(authority.pem.as_bytes(), client.map(Papers::identity)).unwrap();
    caller_with(CallerConfig { tls: Some(tls), ..CallerConfig::default() })
}

/// Statement 50: stock clients of both versions, which verify our service's certificate by its address and show theirs.
#[tokio::test]
async fn stock_clients_and_our_service_verify_each_other() {
    let authority = Authority::new("authority");
    let server = authority.sign("server", &HERE);
    let client = authority.sign("client-1", &HERE);
    let ring = Ring::mixed().await;
    let service = secured(&authority, &server).await;
    ring.announce("rpc:tls", service.local_addr().port()).await;
    let calls = [
        json!({"do": "request", "payload": {"length": 4}, "options": {}}),
        json!({"do": "request", "payload": "packed", "options": {"compress": true}}),
        json!({"do": "map", "payload": "fail", "options": {}}),
        json!({"do": "stream", "chunks": ["hello"], "options": {"headers": {"_a": "up"}}}),
    ];
    for version in VERSIONS {
        let replies = stock_calls(&ring, version, "rpc:tls", &calls, client.secure()).await;
        let of = |payload: Value| json!([null, {"key": "rpc:tls", "payload": payload, "client": "client-1"}]);
        assert_eq!(replies[0], of(json!({"length": 4})), "{version}");
        assert_eq!(replies[1], of(json!("packed")), "{version}");
        assert_eq!(replies[2][0], "ERR_EXAMPLE", "{version}");
        assert_eq!(replies[3][1][2]["body"], "hello", "{version}: {}", replies[3]);
    }
}

/// Statement 50: our caller and stock services of both versions.
#[tokio::test]
async fn our_caller_and_stock_services_verify_each_other() {
    let authority = Authority::new("authority");
    let server = authority.sign("server", &HERE);
    let client = authority.sign("client-1", &HERE);
    let ring = Ring::of_ours().await;
    let caller = caller_of(&authority, Some(&client));
    for version in VERSIONS {
        let name = format!("rpc:tls:{version}");
        let (_service, port) = stock_service(&ring, version, &name, json!({"secure": server.secure()})).await;
        let reply = caller.request(local(port), &name, &raw(&json!(1))).await.unwrap();
        assert_eq!(
            shown(&reply),
            json!([null, {"key": name, "payload": 1, "client": "client-1"}]),
            "{version}"
        );
        assert!(caller_of(&authority, None).request(local(port), &name, &raw(&json!(1))).await.is_err());
    }
}

/// Statement 50: a certificate of another authority, for another address, or none at all is refused, by either side.
#[tokio::test]
async fn papers_that_are_not_good_are_refused() {
    let (authority, other) = (Authority::new("authority"), Authority::new("other"));
    let client = authority.sign("client-1", &HERE);
    let ask = async |service: &Serving, caller: Caller| {
        caller.request(service.local_addr(), "rpc:tls", &raw(&json!(1))).await
    };

    let good = secured(&authority, &authority.sign("server", &HERE)).await;
    assert!(ask(&good, caller_of(&authority, Some(&client))).await.is_ok());
    assert!(ask(&good, caller_of(&authority, None)).await.is_err(), "no certificate");
    let stranger = other.sign("client-2", &HERE);
    assert!(ask(&good, caller_of(&authority, Some(&stranger))).await.is_err(), "a stranger's certificate");
    let error = ask(&good, caller_of(&other, Some(&client))).await.unwrap_err();
    assert!(error.never_sent(), "the service is not the authority's: {error}");

    for elsewhere in [&[IpAddr::from([10, 0, 0, 1])][..], &[]] {
        let service = secured(&authority, &authority.sign("server", elsewhere)).await;
        let error = ask(&service, caller_of(&authority, Some(&client))).await.unwrap_err();
        assert!(error.never_sent() && error.to_string().contains("certificate"), "{error}");
    }

    // Neither speaks plain HTTP where TLS is agreed on, nor the other way round.
    assert!(ask(&good, caller()).await.is_err());
    assert!(ask(&serve(Example).await, caller_of(&authority, Some(&client))).await.is_err());
}

#[tokio::test]
async fn a_service_may_ask_for_no_certificate_and_an_ipv6_address_is_verified_too() {
    let authority = Authority::new("authority");
    let server = authority.sign("server", &[Ipv6Addr::LOCALHOST.into()]);
    let tls = tls::server(server.identity(), None).unwrap();
    let listener = TcpListener::bind("[::1]:0").await.expect("this machine has IPv6 on its loopback");
    let settings = Settings { tls: Some(tls), ..Settings::default() };
    let service = service::serve(listener, Example, settings).unwrap();
    let caller = caller_of(&authority, None);
    let reply = caller.request(service.local_addr(), "k", &raw(&json!(1))).await.unwrap();
    assert_eq!(shown(&reply), json!([null, {"key": "k", "payload": 1, "client": null}]));

    let (sender, chunks) = mpsc::channel(1);
    sender.send("a stream".into()).await.unwrap();
    drop(sender);
    let named = Named { key: "k", action: None, args: None };
    let reply = caller.stream(service.local_addr(), named, chunks).await.unwrap();
    assert_eq!(shown(&reply)[1]["body"], "a stream");
    service.shutdown().await;
}

#[tokio::test]
async fn who_never_shakes_hands_is_sent_away_and_stops_no_shutdown() {
    let authority = Authority::new("authority");
    let tls = tls::server(authority.sign("server", &HERE).identity(), None).unwrap();
    let limits = Limits { header_timeout: std::time::Duration::from_millis(200), ..service::LIMITS };
    let service =
        serve_with(Example, Settings { tls: Some(tls.clone()), limits, ..Settings::default() }).await;
    let mut silent = TcpStream::connect(service.local_addr()).await.unwrap();
    let closed = tokio::time::timeout(crate::support::PATIENCE, silent.read(&mut [0; 16])).await;
    assert!(matches!(closed.expect("it is closed"), Ok(0) | Err(_)));
    service.shutdown().await;

    let service = serve_with(Example, Settings { tls: Some(tls), ..Settings::default() }).await;
    let silent = TcpStream::connect(service.local_addr()).await.unwrap();
    let started = std::time::Instant::now();
    service.shutdown_within(crate::support::PATIENCE).await;
    assert!(started.elapsed() < crate::support::PATIENCE / 2, "{:?}", started.elapsed());
    drop(silent);
}
