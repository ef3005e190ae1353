use super::*;

#[test]
fn a_node_is_named_by_the_address_of_its_api_or_its_rpc() {
    let read = |text: &str| Target::parse(text).map(|at| (at.host, at.port, at.maybe_rpc));
    let is = |text: &str, host: &str, port, maybe_rpc| {
        assert_eq!(read(text).unwrap(), (host.to_owned(), port, maybe_rpc), "{text}");
    };
    is("127.0.0.1:4000", "127.0.0.1", 4000, true);
    is("[::1]:1337", "::1", 1337, true);
    is("node.example:80", "node.example", 80, true);
    is("http://127.0.0.1:4000", "127.0.0.1", 4000, false);
    is("http://127.0.0.1:4000/", "127.0.0.1", 4000, false);
    is("https://node.example", "node.example", 443, false);
    for text in [
        "",
        "4000",
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:70000",
        ":4000",
        "ftp://h:1",
        "h:1/api/v1",
        "a@h:1",
        "h:1?x",
        "'h:1'",
    ] {
        assert!(read(text).is_err(), "{text} {:?}", read(text));
    }
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn dht_nodes_that_do_not_reach_as_far_as_the_one_that_was_asked_are_left_out() {
    let told = [
        "0.0.0.0:20011",
        "127.0.0.1:20001",
        "10.9.0.2:20001",
        "51.0.1.1:20001",
        "0.0.0.0:20011",
        "[2001:470::1]:1",
    ]
    .map(at);
    let from = |asked: &str, ipv6| to_start_from(&told, at(asked), ipv6);
    assert_eq!(
        from("127.0.0.1:1337", false),
        ["127.0.0.1:20011", "127.0.0.1:20001", "10.9.0.2:20001", "51.0.1.1:20001"]
    );
    assert_eq!(from("10.9.0.1:1337", false), ["10.9.0.1:20011", "10.9.0.2:20001", "51.0.1.1:20001"]);
    assert_eq!(from("52.0.1.1:1337", false), ["52.0.1.1:20011", "51.0.1.1:20001"]);
    assert_eq!(from("52.0.1.1:1337", true).last().unwrap(), "[2001:470::1]:1");
    assert!(to_start_from(&[at("127.0.0.1:20011")], at("10.9.0.1:1337"), false).is_empty());
}

#[test]
fn the_rpc_of_a_node_is_sought_where_its_api_is_and_where_it_says() {
    let node = |rpc: &str, advertised: &[&str]| NodeAtApi {
        client_id: crate::identity::PublicKey([7; 32]),
        network: "devnet".parse().unwrap(),
        rpc: at(rpc),
        advertised: advertised.iter().map(|&text| at(text)).collect(),
    };
    let everywhere = node("0.0.0.0:1337", &["51.0.1.1:1337", "10.9.0.1:1337"]);
    assert_eq!(at_rpc(&everywhere, &[at("10.9.0.1:4000")]), [at("10.9.0.1:1337"), at("51.0.1.1:1337")]);
    let here = node("127.0.0.1:1338", &["127.0.0.1:1338"]);
    assert_eq!(at_rpc(&here, &[at("127.0.0.1:4001")]), [at("127.0.0.1:1338")]);
    // There it is that machine's own loopback, and here this one's; and nobody who is asked on the internet sends us into our networks.
    assert_eq!(at_rpc(&here, &[at("10.9.0.1:4001")]), []);
    let inside = node("10.9.0.1:1337", &["169.254.1.1:80", "224.0.0.1:80", "51.0.1.1:1337"]);
    assert_eq!(at_rpc(&inside, &[at("52.0.1.1:4000")]), [at("51.0.1.1:1337")]);
}

#[test]
fn one_node_may_be_named_in_two_ways() {
    for (one, other, same) in [
        ("127.0.0.1:4000", "http://127.0.0.1:4000/", true),
        ("127.0.0.1:4000", "127.0.0.1:4001", false),
        ("h:1", "h:1", true),
        ("not a node", "not another", false),
    ] {
        assert_eq!(Target::are_same(one, other), same, "{one} {other}");
    }
}

fn joining() -> Joining {
    Joining {
        join: "127.0.0.1:4000".into(),
        network: "devnet".parse().unwrap(),
        bootstrap: vec!["127.0.0.1:20011".into(), "127.0.0.1:20001".into()],
        listen: Ipv4Addr::LOCALHOST.into(),
        ipv6: false,
        told: "told".into(),
    }
}

#[test]
fn what_is_given_beside_join_must_say_the_same() {
    let given = |network: Option<&str>, bootstrap: Option<&[&str]>| {
        let given = Settings {
            network: network.map(|network| network.parse().unwrap()),
            bootstrap: bootstrap.map(|nodes| nodes.iter().map(|&node| node.to_owned()).collect()),
            ..Settings::default()
        };
        joining().agrees(&given).map_err(|error| error.to_string())
    };
    assert_eq!(given(None, None), Ok(()));
    assert_eq!(given(Some("devnet"), Some(&["127.0.0.1:20001"])), Ok(()));
    assert!(
        given(Some("vintner"), None).unwrap_err().contains("of network devnet, and --network says vintner")
    );
    for nodes in [&["127.0.0.1:20001", "h:1"][..], &[""], &[]] {
        assert!(given(None, Some(nodes)).unwrap_err().contains("leave one of the two out"), "{nodes:?}");
    }
}
