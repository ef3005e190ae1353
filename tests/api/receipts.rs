//! The program of `docs/receipts.md`, which knows nothing of this one, on trades of real nodes.

use crate::trading::{bid, listed};
use serde_json::{Value, json};
use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

/// The program as it stands on the page.
fn program() -> String {
    let page = include_str!("../../docs/receipts.md");
    let (_, rest) = page.split_once("```python\n").unwrap();
    rest.split_once("```").unwrap().0.to_owned()
}

/// Whether it ends well, and what it says.
fn verify(trade: &Value) -> (bool, String) {
    let python = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/.venv/bin/python");
    assert!(
        python.is_file(),
        "cryptography is not installed: run tests/peers/install.sh (make test does it by itself)"
    );
    let mut command = Command::new(python);
    command.args(["-c", &program()]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(trade.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
    (output.status.success(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_verified_by_the_program_on_its_page_and_an_altered_one_is_not() {
    let (maker, taker, id) = listed(r#"{"btc_quantity":"0.5","offer_price":"64000"}"#).await;
    let made: Value = bid(&taker, &id, "{}").await.json().await.unwrap();
    let path = format!("/api/v1/trades/{}", made["trade_id"].as_str().unwrap());
    let (sold, other) = (maker.get_json(&path).await, "a".repeat(64));
    let shown = |trade: &Value, of: &str| trade[of].as_str().unwrap()[..8].to_owned();
    let expected = format!(
        "good: {} sold 0.5 BTC at 64000 USD to {} on network test\n",
        shown(&sold, "maker"),
        shown(&sold, "taker")
    );
    for trade in [&sold, &taker.get_json(&path).await] {
        assert_eq!(verify(trade), (true, expected.clone()));
    }

    // Every part that can be altered is.
    let altered = |statement: &str, part: &str, from: &str, to: &str| {
        let mut trade = sold.clone();
        let place = &mut trade["signatures"][statement][part];
        let text = place.as_str().unwrap().replacen(from, to, 1);
        assert_ne!(text, place.as_str().unwrap(), "{from} is not in it");
        *place = json!(text);
        verify(&trade)
    };
    for (statement, part, from, to) in [
        ("trade", "text", "64000", "64001"),
        ("bid", "text", "64000", "64001"),
        ("trade", "text", "\"network\":\"test\"", "\"network\":\"devnet\""),
        ("trade", "text", sold["maker"].as_str().unwrap(), &other),
    ] {
        let (good, said) = altered(statement, part, from, to);
        assert!(!good && said.starts_with("bad: "), "{statement} {from}: {said}");
    }
    // Two good statements that do not belong together.
    let id = maker.create(r#"{"btc_quantity":"0.5","offer_price":"64000"}"#).await["id"]
        .as_str()
        .unwrap()
        .to_owned();
    crate::trading::until(|| async { taker.get(&format!("/api/v1/offers/{id}")).await.status() == 200 })
        .await;
    let made: Value = bid(&taker, &id, "{}").await.json().await.unwrap();
    let mut mixed = sold.clone();
    mixed["signatures"]["bid"] = made["trade"]["signatures"]["bid"].clone();
    assert_eq!(verify(&mixed), (false, "bad: the trade is about another bid\n".to_owned()));
    // What the page says of the numbers in the text.
    let text: Value = serde_json::from_str(sold["signatures"]["trade"]["text"].as_str().unwrap()).unwrap();
    assert!(text["executed_at"].is_u64(), "{text}");
}
