//! What strangers write, on every way that leads it to a terminal.

use super::{
    everyday::{pair, until},
    payloads::{PAYLOADS, assert_harmless},
    said, vintner,
};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::Stdio,
    thread,
};

/// Where a stranger's text begins, so that it is seen that it was shown at all.
const BEGINS: &str = "a stranger says: ";

/// Everything that a stranger may write at once.
fn text() -> String {
    BEGINS.to_owned() + &PAYLOADS.join(" ")
}

/// Puts a stranger's text wherever free text stands in an answer of the API.
fn write_into(answer: &mut Value) {
    match answer {
        Value::Array(items) => items.iter_mut().for_each(write_into),
        Value::Object(fields) => {
            if fields.contains_key("offer_price") && fields.contains_key("sequence") {
                fields.insert("memo".into(), text().into());
            }
            if fields.contains_key("valid_until") && fields.contains_key("bidder") {
                fields.insert("status".into(), "refused".into());
                fields.insert("refusal".into(), json!({ "code": text(), "detail": text() }));
                fields.remove("trade");
                fields.remove("trade_id");
            }
            if fields.contains_key("reasons") {
                let reason = json!({
                    "code": text(), "level": "warn", "since": "2026-11-21T03:30:58.271Z",
                    "meaning": text(), "advice": text(), "detail": text()});
                fields.insert("reasons".into(), json!([reason]));
            }
            for (name, value) in fields {
                if ["name", "label", "detail", "title"].contains(&name.as_str()) && value.is_string() {
                    *value = text().into();
                }
                write_into(value);
            }
        }
        _ => {}
    }
}

/// What a node answers to a GET, as it stands.
fn asked(node: &str, path: &str) -> Value {
    let host = node.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap_or_else(|_| panic!("{answer}"))
}

/// The API of a node that knows nothing but strangers. What is sent to it is refused, in their words.
fn serve(node: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
            let Some(first) = lines.next() else { continue };
            let length = lines.by_ref().take_while(|line| !line.is_empty()).count();
            assert!(length > 0);
            let mut words = first.split(' ');
            let (method, path) = (words.next().unwrap(), words.next().unwrap());
            let (status, mut body) = if method == "GET" {
                ("200 OK", asked(&node, path))
            } else {
                let offer = asked(&node, path.trim_end_matches("/bids"));
                let errors = json!([{ "pointer": text(), "detail": text() }]);
                let problem = json!({
                    "type": text(), "title": text(), "status": 409, "detail": text(), "code": text(),
                    "retryable": false, "errors": errors, "offer": offer});
                ("409 Conflict", problem)
            };
            write_into(&mut body);
            let (mut stream, body) = (stream, body.to_string());
            let head = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}",
                body.len()
            );
            write!(stream, "{head}\r\nConnection: close\r\n\r\n{body}").unwrap();
        }
    });
    url
}

#[test]
fn what_strangers_write_is_harmless_on_every_way_to_a_terminal() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, taker) = pair(dir.path());
    let [sold, open] = ["7", "8"].map(|price| {
        let made = maker.json(&["offers", "create", "--quantity", "1", "--price", price]);
        made["id"].as_str().unwrap().to_owned()
    });
    until("the list to be complete", || {
        taker.json(&["offers", "list"])["items"].as_array().unwrap().len() == 2
    });
    let bid = taker.json(&["offers", "bid", &sold]);
    let (bid, trade) = (bid["id"].as_str().unwrap(), bid["trade_id"].as_str().unwrap());
    let api = serve(taker.url.clone());
    let run = |args: &[&str]| said(vintner(&[args, &["--api", &api]].concat()).output().unwrap());

    // Which of them show free text at all: a table of offers has only numbers and words of the program.
    let commands: [(&[&str], bool); 10] = [
        (&["offers", "list"], false),
        (&["offers", "list", "--all"], false),
        (&["offers", "show", &open], true),
        (&["offers", "bid", &open, "--if-sequence", "1"], true),
        (&["offers", "withdraw", &open], true),
        (&["bids", "list"], false),
        (&["bids", "show", bid], true),
        (&["trades", "list"], false),
        (&["trades", "show", trade], false),
        (&["status"], true),
    ];
    for (args, shows) in commands {
        for more in [&[][..], &["--json"]] {
            let (_, out, err) = run(&[args, more].concat());
            for line in out.lines().chain(err.lines()) {
                assert_harmless(line);
                assert!(!line.starts_with("status      accepted"), "{args:?}: {out} {err}");
            }
            assert!(!shows || (out.clone() + &err).contains(BEGINS), "{args:?} {more:?}: {out} {err}");
        }
        // A machine reads what was written.
        let (_, out, _) = run(&[args, &["--json"]].concat());
        let read: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e} {out}"));
        assert!(!shows || read.to_string().contains(&Value::from(text()).to_string()), "{args:?}: {read}");
    }
    for more in [&[][..], &["--json"]] {
        let mut watch = vintner(&[&["offers", "list", "--watch", "--api", &api], more].concat());
        let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
        let line = BufReader::new(watch.stdout.take().unwrap()).lines().next().unwrap().unwrap();
        watch.kill().unwrap();
        watch.wait().unwrap();
        assert!(line.contains(&open) && (more.is_empty() || line.contains(BEGINS)), "{line}");
        assert_harmless(&line);
    }
    maker.stop();
    taker.stop();
}
