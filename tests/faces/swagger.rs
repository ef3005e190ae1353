//! Swagger UI in a real Chromium: "Try it out" and "Execute" make an offer and buy it; a page of another origin can do nothing.
//! `VINTNER_SCREENSHOT=docs/swagger-ui.png` makes the picture of the README anew.

use crate::{
    devnet::{Devnet, VINTNER},
    network, node,
};
use serde_json::Value;
use std::process::Command;

#[test]
fn an_offer_is_made_and_bought_with_the_buttons_of_swagger_ui() {
    let dir = tempfile::tempdir().unwrap();
    let (_devnet, [maker, _, taker]): (Devnet, _) = network(dir.path());
    let screenshot = std::env::var("VINTNER_SCREENSHOT").ok();
    let mut arguments = vec![&*maker, &*taker];
    arguments.extend(screenshot.as_deref());
    let said = node("swagger.js", &arguments);

    // What the page showed is what both nodes say.
    let done: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    for (api, role) in [(&maker, "maker"), (&taker, "taker")] {
        let show = ["trades", "show", done["trade"].as_str().unwrap(), "--json", "--api", api];
        let trade = Command::new(VINTNER).args(show).output().unwrap();
        let trade: Value = serde_json::from_slice(&trade.stdout).unwrap_or_else(|_| panic!("{trade:?}"));
        assert_eq!((&trade["offer_id"], &trade["role"]), (&done["offer"], &Value::from(role)), "{said}");
    }
}
