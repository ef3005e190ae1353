use super::*;
use crate::identity::PublicKey;
use proptest::prelude::*;

fn at(seconds: u64) -> Now {
    Now::from_start(Duration::from_secs(seconds))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn peer(text: &str) -> Peer {
    Peer { client: PublicKey([7; 32]), address: SocketAddr::new(ip(text), 1337) }
}

/// This machine has the address.
fn told(seen: &str, reached: bool) -> DialedBack {
    DialedBack { seen: ip(seen), own: true, reached }
}

/// It is a router's, or a lie.
fn told_of_another(seen: &str) -> DialedBack {
    DialedBack { seen: ip(seen), own: false, reached: true }
}

fn addresses(reach: &Reach) -> Vec<String> {
    reach.addresses().iter().map(ToString::to_string).collect()
}

fn open() -> Reach {
    Reach::new(Place::Open, 1337)
}

/// Asks `by`, who answers so at once.
fn ask(reach: &mut Reach, now: Now, by: &str, answer: impl Into<Option<DialedBack>>) -> bool {
    let (asked, answer) = (reach.ask(now, [peer(by)]), answer.into());
    for peer in asked {
        reach.dialed(now, peer, answer);
    }
    reach.waits.contains_key(&Voice::of(ip(by)))
}

#[test]
fn an_address_is_believed_once_somebody_got_through_to_it() {
    let mut reach = open();
    reach.seen(at(0), peer("52.0.1.1"), ip("51.0.1.1"));
    assert!(reach.addresses().is_empty(), "said, and not tried");
    assert!(ask(&mut reach, at(1), "52.0.1.1", told("51.0.1.1", false)));
    assert!(reach.addresses().is_empty(), "tried in vain");
    ask(&mut reach, at(20), "52.0.1.1", told("::ffff:51.0.1.1", true));
    assert_eq!(addresses(&reach), ["51.0.1.1:1337"]);
}

#[test]
fn a_node_in_two_networks_is_at_both_its_addresses() {
    let mut reach = open();
    for (by, seen) in [("10.2.0.7", "10.2.0.1"), ("10.2.0.8", "10.2.0.1"), ("10.1.0.9", "10.1.0.1")] {
        reach.seen(at(0), peer(by), ip(seen));
        ask(&mut reach, at(1), by, told(seen, true));
    }
    assert_eq!(addresses(&reach), ["10.2.0.1:1337", "10.1.0.1:1337"], "that of most voices first");
}

#[test]
fn an_address_that_this_machine_has_not_is_believed_by_two_voices_and_four_are_told_at_most() {
    let mut reach = open();
    for n in 0..50 {
        let liar = peer(&format!("66.6.6.{n}"));
        reach.dialed(at(n), liar, Some(told_of_another("9.9.9.9")));
        reach.dialed(
            at(n),
            peer(&format!("7{}.0.0.1", n % 10)),
            Some(told_of_another(&format!("8.8.8.{n}"))),
        );
    }
    assert_eq!(addresses(&reach), <[&str; 0]>::default(), "a prefix has one voice, its last word");
    for (n, honest) in ["52.0.1.1", "53.0.1.1"].iter().enumerate() {
        reach.dialed(at(60 + n as u64), peer(honest), Some(told_of_another("51.0.1.1")));
    }
    assert_eq!(addresses(&reach), ["51.0.1.1:1337"], "behind a router that forwards");
    for n in 0..9 {
        for by in ["80", "81", "82"] {
            let by = peer(&format!("{by}.{n}.0.1"));
            reach.dialed(at(70), by, Some(told_of_another(&format!("8.8.{n}.8"))));
        }
    }
    assert_eq!(reach.addresses().len(), ADDRESSES_MAX);
}

#[test]
fn what_no_host_can_have_and_private_addresses_told_from_outside_are_not_heard() {
    let mut reach = open();
    for seen in ["224.0.0.1", "255.255.255.255", "0.0.0.0", "10.0.0.1", "::ffff:192.168.0.1"] {
        for by in ["52.0.1.1", "53.0.1.1"] {
            reach.dialed(at(0), peer(by), Some(told(seen, true)));
        }
    }
    assert!(reach.addresses().is_empty() && reach.words.is_empty(), "{reach:?}");
}

#[test]
fn loopback_is_neither_believed_nor_heard() {
    let mut reach = open();
    reach.dialed(at(0), peer("127.0.0.1"), Some(told("127.0.0.1", true)));
    reach.dialed(at(0), peer("52.0.1.1"), Some(told("127.0.0.1", true)));
    reach.dialed(at(0), peer("52.0.1.1"), Some(told("::ffff:127.0.0.1", true)));
    assert!(reach.addresses().is_empty() && reach.ask(at(0), [peer("127.0.0.1")]).is_empty());
    assert_eq!(reach.reachability(at(1)), Reachability::Unknown);
}

#[test]
fn nobody_reaches_a_node_when_two_of_other_prefixes_did_not_and_nobody_did() {
    let mut reach = open();
    let (mine, one, same, other) = ("51.0.1.1", "52.0.1.1", "52.0.1.2", "53.0.1.1");
    ask(&mut reach, at(0), one, told(mine, false));
    assert_eq!(reach.reachability(at(1)), Reachability::Unknown, "one is not enough");
    reach.dialed(at(1), peer(same), Some(told(mine, false)));
    reach.dialed(at(1), peer("51.0.1.9"), Some(told(mine, false)));
    assert_eq!(
        reach.reachability(at(1)),
        Reachability::Unknown,
        "nor are two of one prefix, or one of the own"
    );
    ask(&mut reach, at(2), other, told(mine, false));
    let tried = vec!["51.0.1.1:1337".parse().unwrap()];
    assert_eq!(reach.reachability(at(3)), Reachability::Unreached { tried: tried.clone() });
    reach.arrived(at(4), ip("51.0.1.200"));
    reach.arrived(at(4), ip("10.0.0.1"));
    reach.arrived(at(4), ip("127.0.0.1"));
    assert_eq!(reach.reachability(at(5)), Reachability::Unreached { tried }, "from inside");
    reach.arrived(at(6), ip("54.0.1.1"));
    assert_eq!(reach.reachability(at(7)), Reachability::Reached, "somebody asks from outside");
}

#[test]
fn a_way_that_closes_is_noticed_and_one_that_opens_too() {
    let mut reach = open();
    let (mine, one, other) = ("51.0.1.1", "52.0.1.1", "53.0.1.1");
    for by in [one, other] {
        ask(&mut reach, at(0), by, told(mine, true));
    }
    assert_eq!(reach.reachability(at(1)), Reachability::Reached);
    assert!(reach.ask(at(599), [peer(one)]).is_empty(), "asked again after ten minutes");
    ask(&mut reach, at(600), one, told(mine, false));
    assert_eq!(reach.reachability(at(601)), Reachability::Reached, "the other still speaks for it");
    ask(&mut reach, at(600), other, told(mine, false));
    assert!(matches!(reach.reachability(at(601)), Reachability::Unreached { .. }));
    assert_eq!(
        addresses(&reach),
        ["51.0.1.1:1337"],
        "the address is kept a while: it may be a passing fault"
    );
    assert!(reach.ask(at(614), [peer(one)]).is_empty());
    ask(&mut reach, at(615), one, told(mine, true));
    assert_eq!(reach.reachability(at(616)), Reachability::Reached);
}

#[test]
fn who_does_not_get_through_is_asked_less_and_less_often_and_at_once_when_the_address_changes() {
    let (mut reach, mut asked) = (open(), Vec::new());
    for second in 0..1_000 {
        if reach.ask(at(second), [peer("52.0.1.1")]).len() == 1 {
            reach.dialed(at(second), peer("52.0.1.1"), Some(told("51.0.1.1", false)));
            asked.push(second);
        }
    }
    assert_eq!(asked, [0, 15, 45, 105, 225, 465, 765]);
    reach.seen(at(1_000), peer("52.0.1.1"), ip("51.0.1.2"));
    assert_eq!(reach.ask(at(1_000), [peer("52.0.1.1")]).len(), 1);
}

#[test]
fn who_does_not_answer_is_asked_again_later_and_says_nothing() {
    let mut reach = open();
    assert!(ask(&mut reach, at(0), "52.0.1.1", None) && ask(&mut reach, at(0), "53.0.1.1", None));
    assert_eq!(reach.reachability(at(1)), Reachability::Unknown);
    assert!(reach.ask(at(14), [peer("52.0.1.1")]).is_empty());
    assert_eq!(reach.ask(at(15), [peer("52.0.1.1")]).len(), 1);
}

#[test]
fn a_few_are_asked_of_many_two_at_a_time_and_one_of_each_network() {
    let mut reach = open();
    let many: Vec<Peer> = (1..100).map(|n| peer(&format!("52.0.{n}.1"))).collect();
    let mut asked = 0;
    for second in 0..100 {
        let some = reach.ask(at(second), many.iter().copied());
        assert!(some.len() <= DIALS_AT_ONCE && reach.ask(at(second), many.iter().copied()).is_empty());
        asked += some.len();
        for peer in some {
            reach.dialed(at(second), peer, Some(told("51.0.1.1", true)));
        }
    }
    assert_eq!(asked, DIALERS_WANTED);
    reach.seen(at(100), peer("10.1.0.9"), ip("10.1.0.1"));
    let again: Vec<Peer> = many.iter().copied().chain([peer("10.1.0.9")]).collect();
    assert_eq!(reach.ask(at(100), again), [peer("10.1.0.9")], "the only one of its network");
}

#[test]
fn what_its_owner_said_of_its_addresses_stands() {
    let given = |texts: &[&str]| Place::Given(texts.iter().map(|text| text.parse().unwrap()).collect());
    let mut reach = Reach::new(given(&["60.0.1.1:8000"]), 1337);
    for by in ["52.0.1.1", "53.0.1.1"] {
        ask(&mut reach, at(0), by, told("51.0.1.1", false));
    }
    assert_eq!(addresses(&reach), ["60.0.1.1:8000"]);
    assert_eq!(
        reach.reachability(at(1)),
        Reachability::Unknown,
        "they dialed where it does not say that it is"
    );
    for by in ["52.0.1.1", "53.0.1.1"] {
        reach.dialed(at(2), peer(by), Some(told("60.0.1.1", false)));
    }
    let tried = vec!["60.0.1.1:8000".parse().unwrap()];
    assert_eq!(reach.reachability(at(3)), Reachability::Unreached { tried });
    let mut inside = Reach::new(Place::Inside("10.0.0.1:1337".parse().unwrap()), 1337);
    ask(&mut inside, at(0), "52.0.1.1", told("51.0.1.1", true));
    assert_eq!(addresses(&inside), ["10.0.0.1:1337", "51.0.1.1:1337"]);
}

#[test]
fn what_the_settings_say_is_told_with_the_flag_that_changes_it() {
    let of = |rpc: &str, dht: &str, advertise: &[&str]| {
        let advertise: Vec<SocketAddr> = advertise.iter().map(|text| text.parse().unwrap()).collect();
        Place::of(rpc.parse().unwrap(), &[ip(dht)], &advertise)
    };
    let (place, notices) = of("127.0.0.1:1337", "127.0.0.1", &[]);
    assert!(place.is_for_this_machine_only() && matches!(&notices[..], [Notice::Fine(_)]));
    for dht in ["0.0.0.0", "10.0.0.1", "51.0.1.1"] {
        let (place, notices) = of("127.0.0.1:1337", dht, &[]);
        assert_eq!((place.addresses(), &place), (&[][..], &Place::Nowhere));
        let [Notice::Trouble(said)] = &notices[..] else { panic!("{notices:?}") };
        assert!(said.contains("--rpc 0.0.0.0:1337") && said.contains("--advertise"), "{said}");
        assert_eq!(Reach::new(place, 1337).reachability(at(0)), Reachability::Nowhere);
    }
    // Loopback is told to nobody beyond it, whoever says so.
    let (place, notices) = of("0.0.0.0:1337", "0.0.0.0", &["127.0.0.1:1337", "[::1]:1", "51.0.1.1:1"]);
    assert_eq!(place, Place::Given(vec!["51.0.1.1:1".parse().unwrap()]));
    assert!(matches!(&notices[0], Notice::Trouble(said) if said.contains("--advertise")));
    assert_eq!(of("0.0.0.0:1337", "0.0.0.0", &["127.0.0.1:1337"]).0, Place::Open);
    assert_eq!(of("[::]:1337", "127.0.0.1", &[]).0, Place::Open);
    assert_eq!(of("10.0.0.1:1", "0.0.0.0", &[]).0, Place::Inside("10.0.0.1:1".parse().unwrap()));
    assert_eq!(of("[::ffff:51.0.1.1]:1", "0.0.0.0", &[]).0, Place::Bound("51.0.1.1:1".parse().unwrap()));
}

#[test]
fn a_dht_on_loopback_that_is_to_start_from_nodes_elsewhere_is_told() {
    let told = |dht: &[&str], bootstrap: &[&str]| {
        let dht: Vec<IpAddr> = dht.iter().map(|text| ip(text)).collect();
        let bootstrap: Vec<String> = bootstrap.iter().map(|text| (*text).to_owned()).collect();
        unheard(&dht, &bootstrap).map(|notice| notice.to_string())
    };
    let said = told(&["127.0.0.1"], &["127.0.0.1:1", "grape.example:20001", "10.9.0.1:1"]).unwrap();
    assert!(
        said.contains("grape.example:20001, 10.9.0.1:1 unless") && said.contains("--dht 0.0.0.0"),
        "{said}"
    );
    assert_eq!(
        told(&["127.0.0.1"], &["127.0.0.1:1", "[::1]:1", "localhost:1", "[::ffff:127.0.0.1]:2"]),
        None
    );
    assert_eq!(told(&["0.0.0.0"], &["grape.example:20001"]), None);
    assert_eq!(told(&["127.0.0.1", "::"], &["grape.example:20001"]), None);
}

fn is_own(ip: IpAddr) -> bool {
    matches!(ip, IpAddr::V4(ip) if ip.octets()[0].is_multiple_of(8))
}

proptest! {
    /// Whatever others say: four addresses at most, never loopback, none but this machine's own that fewer than two voices name who got
    /// through, and no bound grows.
    #[test]
    fn nobody_makes_it_believe_anything_alone(
        words in prop::collection::vec((0u8..90, 0u8..90, 0u8..4, 0u64..100), 1..200)
    ) {
        let (mut reach, mut now, mut tried) = (open(), 0, BTreeMap::<IpAddr, BTreeSet<IpAddr>>::new());
        for (from, seen, kind, step) in words {
            now += step;
            let by = Peer { client: PublicKey([from; 32]), address: SocketAddr::from(([40 + from, 0, 1, 1], 1)) };
            let seen = if seen < 5 { IpAddr::from([127, 0, 0, seen]) } else { IpAddr::from([100 + seen, 0, 0, 1]) };
            match kind {
                0 => reach.seen(at(now), by, seen),
                1 => reach.arrived(at(now), by.address.ip()),
                _ => {
                    // Some of the addresses are this machine's.
                    let (own, reached) = (is_own(seen), kind == 2);
                    if reached {
                        tried.entry(seen).or_default().insert(by.address.ip());
                    }
                    reach.dialed(at(now), by, Some(DialedBack { seen, own, reached }));
                }
            }
            prop_assert!(reach.addresses().len() <= ADDRESSES_MAX);
            for address in reach.addresses() {
                let voices = tried.get(&address.ip()).map_or(0, BTreeSet::len);
                let wanted = if is_own(address.ip()) { 1 } else { 2 };
                prop_assert!(!address.ip().is_loopback() && voices >= wanted, "{address} by {voices}");
            }
            prop_assert!(reach.words.len() <= VOICES_MAX && reach.waits.len() <= VOICES_MAX);
        }
    }
}
