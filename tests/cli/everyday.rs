//! What an owner does every day: two nodes that trade, the lists of it, and advice that can be typed as it stands.

use super::{
    NodeProcess,
    payloads::{PAYLOADS, assert_harmless},
    run, said, vintner,
};
use std::time::{Duration, Instant};

/// A node, and one that trades with it.
pub(crate) fn pair(dir: &std::path::Path) -> (NodeProcess, NodeProcess) {
    let maker = NodeProcess::start(&dir.join("maker"), &[]);
    let dht = maker.json(&["status"])["dht"]["address"].as_str().unwrap().to_owned();
    let taker = NodeProcess::start_beside(&dir.join("taker"), &dht, &[]);
    (maker, taker)
}

pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < Duration::from_mins(1), "{what} did not happen within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The command of the only advice between backticks in `text`, typed as it stands.
fn typed(text: &str) -> (i32, String, String) {
    let command = text.split('`').nth(1).unwrap_or_else(|| panic!("no command in {text}"));
    let words: Vec<&str> = command.split_whitespace().collect();
    assert_eq!(words[0], "vintner", "{text}");
    run(&words[1..])
}

fn columns(table: &str) -> Vec<Vec<String>> {
    fn cells(line: &str) -> Vec<String> {
        line.split("  ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
    }
    table.lines().map(cells).collect()
}

#[test]
fn a_day_of_trading_is_listed_by_both_sides_and_advice_leads_back_to_the_node() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, taker) = pair(dir.path());
    let made = |args: &[&str]| {
        let made = maker.json(&[&["offers", "create"], args].concat());
        made["id"].as_str().unwrap().to_owned()
    };
    let sell = made(&["--quantity", "0.5", "--price", "64000"]);
    let buy = made(&["--quantity", "12", "--price", "100", "--side", "buy", "--currency", "EUR"]);
    let last = made(&["--quantity", "1", "--price", "7"]);
    until("the list to be complete", || {
        taker.json(&["offers", "list"])["items"].as_array().unwrap().len() == 3
    });
    let prices = |sort: &str| {
        let page = taker.json(&["offers", "list", "--currency", "USD", "--sort", sort]);
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|o| o["offer_price"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        (prices("price"), prices("-price")),
        (vec!["7".into(), "64000".into()], vec!["64000".into(), "7".into()])
    );
    let (code, _, err) = taker.run(&["offers", "list", "--sort", "price"]);
    assert!(code == 2 && err.contains("--currency"), "{err}");

    let as_listed = ["--side", "sell", "--quantity", "0.5", "--price", "64000", "--currency", "USD"];
    for (offer, seen) in [(&sell, &as_listed[..]), (&buy, &[])] {
        let (code, _, err) = taker.run(&[&["offers", "bid", offer], seen].concat());
        assert_eq!(code, 0, "{err}");
    }
    let maker_id = maker.json(&["status"])["client_id"].as_str().unwrap()[..16].to_owned();
    let taker_id = taker.json(&["status"])["client_id"].as_str().unwrap()[..16].to_owned();
    let (_, out, _) = taker.run(&["trades", "list"]);
    let rows = columns(&out);
    assert_eq!(rows[0], ["ID", "WITH", "BTC", "PRICE", "IN", "AT", "AS"]);
    assert_eq!(rows[1][1..5], [format!("you sold to {maker_id}"), "12".into(), "100".into(), "EUR".into()]);
    assert_eq!(
        rows[2][1..5],
        [format!("you bought from {maker_id}"), "0.5".into(), "64000".into(), "USD".into()]
    );
    // Numbers end below each other.
    let end = |line: &str, number: &str| line.find(number).unwrap() + number.len();
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(end(lines[1], "  100 "), end(lines[2], "64000 "), "{out}");
    let (_, out, _) = maker.run(&["trades", "list", "--role", "maker", "--currency", "USD"]);
    assert_eq!(columns(&out)[1][1], format!("you sold to {taker_id}"), "{out}");
    let (_, out, _) = maker.run(&["trades", "list", "--role", "taker", "--since", "1h"]);
    assert!(out.starts_with("no such trades; `vintner offers list --api"), "{out}");

    // A list that has more says what to type.
    let (_, out, _) = taker.run(&["bids", "list", "--limit", "1", "--state", "accepted"]);
    let (code, more, err) = typed(out.lines().last().unwrap());
    assert!(
        code == 0 && columns(&more)[1][2].starts_with("you buy from") && !more.contains("more:"),
        "{more} {err}"
    );
    let (_, out, _) = maker.run(&["bids", "list", "--received"]);
    assert_eq!(columns(&out)[1][2], format!("you buy from {taker_id}"), "{out}");

    // In doubt: the advice knows which node was asked.
    maker.stop();
    let (code, _, err) = taker.run(&["offers", "bid", &last, "--wait", "0s"]);
    assert_eq!(code, 3, "{err}");
    let (code, out, err) = typed(err.lines().last().unwrap());
    assert!(code == 3 && out.contains("in_doubt") && out.contains("give up from"), "{out} {err}");
    let (_, out, _) = taker.run(&["status"]);
    let (code, out, _) = typed(out.lines().find(|line| line.starts_with("in doubt")).unwrap());
    let rows = columns(&out);
    assert!(code == 0 && rows[1][1] == "in_doubt" && rows.len() > 1, "{out}");
    let (code, _, err) = taker.run(&["bids", "give-up", &rows[1][0]]);
    assert!(
        code == 1 && err.contains("give_up_too_early") && err.contains("can be given up from 20"),
        "{err}"
    );
    let (code, out, _) = typed(err.lines().last().unwrap());
    assert!(code == 3 && out.contains(&rows[1][0]), "{out}");
    taker.stop();
}

#[test]
fn a_bid_says_what_was_seen_and_its_owner_is_told_what_there_is_instead() {
    let dir = tempfile::tempdir().unwrap();
    let (maker, taker) = pair(dir.path());
    let made = maker.json(&["offers", "create", "--quantity", "0.5", "--price", "64000"]);
    let (id, sequence) = (made["id"].as_str().unwrap(), &made["sequence"]);
    until("the offer to be listed", || taker.run(&["offers", "show", id]).0 == 0);
    let (_, _, advice) = taker.run(&["offers", "show", id]);
    assert!(advice.contains(&format!("`vintner offers bid {id} --if-sequence {sequence} ")), "{advice}");
    let (_, _, quiet) = maker.run(&["offers", "show", id]);
    assert!(quiet.is_empty(), "a maker is not told to bid: {quiet}");
    let others: [(&[&str], &str); 4] = [
        (&["--if-sequence", "1"], "sequence_mismatch"),
        (&["--side", "buy"], "terms_changed"),
        (&["--quantity", "0.25"], "terms_changed"),
        (&["--currency", "EUR", "--price", "64000"], "terms_changed"),
    ];
    for (seen, code) in others {
        let (exit, out, err) = taker.run(&[&["offers", "bid", id], seen].concat());
        assert!(exit == 1 && out.is_empty() && err.contains(&format!("({code})")), "{seen:?} {err}");
        let now = format!("it is now: sell 0.5 BTC at 64000 USD, open, sequence {sequence}\n");
        assert!(err.contains(&now), "{seen:?} {err}");
        let (exit, out, err) = typed(err.lines().last().unwrap());
        assert!(exit == 0 && out.contains(id), "{seen:?} {err}");
    }
    assert_eq!(taker.json(&["bids", "list"])["items"], serde_json::json!([]), "nothing was bid");
    let (exit, out, err) = typed(&advice);
    assert!(exit == 0 && out.contains("accepted"), "{out} {err}");
    maker.stop();
    taker.stop();
}

#[test]
fn what_is_not_known_here_is_not_called_refused_and_a_second_withdrawal_is_a_makers_matter() {
    let dir = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(dir.path(), &[]);
    let young = uuid::Uuid::now_v7().to_string();
    let (code, _, err) = node.run(&["bids", "show", &young]);
    assert!(
        code == 1 && err.contains("neither made by this node nor received") && !err.contains("refused"),
        "{err}"
    );
    assert!(err.contains("next: ask the node that made the bid, with its --api"), "{err}");
    let made = node.json(&["offers", "create", "--quantity", "1", "--price", "1"]);
    let id = made["id"].as_str().unwrap();
    assert_eq!(node.run(&["offers", "withdraw", id]).0, 0);
    let (code, _, err) = node.run(&["offers", "withdraw", id]);
    assert!(code == 1 && err.contains("was withdrawn before") && err.contains("(offer_closed)"), "{err}");
    let (code, out, _) = typed(err.lines().last().unwrap());
    assert!(code == 0 && out.contains("withdrawn") && !err.contains("choose another"), "{out}");
    node.stop();
}

#[test]
fn advice_repeats_the_token_file_and_never_a_token_from_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let (file, token) = (dir.path().join("my token"), "0123456789abcdef0123456789abcdef");
    std::fs::write(&file, token).unwrap();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let path = file.display().to_string();
    let node = NodeProcess::start(&dir.path().join("node"), &["--token-file", &path]);
    let (_, out, _) = node.run(&["trades", "list", "--token-file", &path]);
    assert!(out.contains(&format!("--api {} --token-file '{path}'`", node.url)), "{out}");
    let mut command = vintner(&["trades", "list", "--api", &node.url]);
    let (code, out, _) = said(command.env("VINTNER_TOKEN", token).output().unwrap());
    assert!(code == 0 && out.contains(&node.url) && !out.contains(token), "{out}");
    node.stop();
}

#[test]
fn a_currency_that_looks_mistyped_is_refused_where_nobody_can_be_asked() {
    let dir = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(dir.path(), &[]);
    let create = ["offers", "create", "--quantity", "1", "--price", "1", "--currency"];
    let (code, _, err) = node.run(&[&create[..], &["UDS"]].concat());
    assert!(
        code == 2
            && err.contains("did you mean USD")
            && err.contains("next: correct --currency, or say --yes"),
        "{err}"
    );
    assert_eq!(node.json(&["offers", "list"])["items"].as_array().unwrap().len(), 0);
    assert_eq!(node.json(&[&create[..], &["UDS", "--yes"]].concat())["currency"], "UDS");
    assert_eq!(node.json(&[&create[..], &["POINTS"]].concat())["currency"], "POINTS");
    let (code, _, err) = node.run(&[&create[..], &["BTC", "--yes"]].concat());
    assert!(code == 1 && err.contains("validation_failed") && err.contains("/currency"), "{err}");
    node.stop();
}

#[test]
fn what_a_maker_writes_is_shown_harmless_and_kept() {
    let dir = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(dir.path(), &[]);
    // Control characters are refused in a memo; all else a maker may write.
    let memos = PAYLOADS.iter().filter(|text| !text.chars().any(char::is_control));
    for memo in memos {
        let made = node.json(&["offers", "create", "--quantity", "1", "--price", "1", "--memo", memo]);
        assert_eq!(made["memo"], *memo, "--json says what was written");
        let (_, out, _) = node.run(&["offers", "show", made["id"].as_str().unwrap()]);
        out.lines().for_each(assert_harmless);
        assert_eq!(out.lines().filter(|line| line.starts_with("memo")).count(), 1, "{out}");
    }
    node.stop();
}

#[test]
fn what_is_above_the_owners_limit_is_neither_offered_nor_bid_on() {
    let dir = tempfile::tempdir().unwrap();
    let node = NodeProcess::start(dir.path(), &["--max-notional", "1000,JPY=200000"]);
    let create = |price: &str, currency: &str| {
        node.run(&["offers", "create", "--quantity", "2", "--price", price, "--currency", currency])
    };
    for (price, currency) in [("500", "USD"), ("100000", "JPY"), ("500", "EUR")] {
        assert_eq!(create(price, currency).0, 0, "{price} {currency}");
    }
    for (price, currency) in [("500.01", "USD"), ("100000.1", "JPY"), ("501", "EUR")] {
        let (code, _, err) = create(price, currency);
        assert!(code == 1 && err.contains("(above_max_notional)") && err.contains("--max-notional"), "{err}");
    }
    node.stop();
    let (code, _, err) = run(&["node", "--max-notional", "USD", "--print-config"]);
    assert!(code == 2 && err.contains("--max-notional"), "{err}");
    let (_, out, _) = run(&["node", "--max-notional", "1000,JPY=200000", "--print-config"]);
    assert!(out.contains("max_notional = [\"1000\", \"JPY=200000\"]"), "{out}");
}
