use super::*;
use crate::{bep44::VerifiedItem, identity::KeyPair};
use proptest::prelude::*;
use serde_json::json;

fn message(text: &str) -> Failure {
    Failure::Message(text.to_owned())
}
fn thrown(text: &str) -> Failure {
    Failure::Thrown(text.to_owned())
}
const NOT_A_BUFFER: &str = "The first argument must be of type string or an instance of Buffer, ArrayBuffer, or Array or an Array-like Object. ";

#[test]
fn bodies_that_are_no_json_and_null_are_thrown() {
    for body in ["", "garbage", "\u{feff}{}", "{\"data\":"] {
        assert_eq!(data_of(body, None), Err(thrown("ERR_GRAPE_PAYLOAD_INVALID")), "{body}");
    }
    assert_eq!(data_of("null", None), Err(thrown("Cannot read properties of null (reading 'data')")));
    assert_eq!(data_of("5", None), Ok(None));
    assert_eq!(data_of(r#"{"rid":7,"data":"x"}"#, None), Ok(Some(json!("x"))));
}

#[test]
fn lookups_need_a_name() {
    assert_eq!(lookup_name(Some(json!("rest:util:net"))).unwrap(), "rest:util:net");
    for data in [None, Some(json!("")), Some(json!(5)), Some(json!(null)), Some(json!(["a"]))] {
        assert_eq!(lookup_name(data), Err(message("ERR_GRAPE_LOOKUP")));
    }
}

#[test]
fn announcements_need_a_name_and_a_port() {
    let read = |data| Announce::read(Some(data), 20_001);
    let announce = |name: &str, port| Ok(Announce { name: name.into(), port });
    assert_eq!(read(json!(["abc", 1337, "ignored"])), announce("abc", 1337));
    assert_eq!(read(json!(["abc", 1337.0])), announce("abc", 1337));
    assert_eq!(read(json!(["", 0])), announce("", 20_001));
    assert_eq!(read(json!([[65, 321], 1])), announce("AA", 1));
    assert_eq!(Announce::read(None, 1), Err(message("ERR_GRAPE_ANNOUNCE")));
    assert_eq!(read(json!("abc")), Err(message("ERR_GRAPE_ANNOUNCE")));
    for port in [json!("1337"), json!(1.5), json!(null), json!(65_536), json!(-1), json!(1e300)] {
        assert_eq!(read(json!(["abc", port])), Err(message("ERR_GRAPE_SERVICE_PORT")));
    }
    assert_eq!(read(json!(["abc"])), Err(message("ERR_GRAPE_SERVICE_PORT")));
    let received = |text: &str| Err(thrown(&format!("{NOT_A_BUFFER}Received {text}")));
    assert_eq!(read(json!([5, 1])), received("type number (5)"));
    assert_eq!(read(json!([null, 1])), received("null"));
}

#[test]
fn immutable_puts_store_any_json() {
    let put = |data| Put::read(Some(data));
    let stored = |v: &str| Ok(Put::Immutable(v.as_bytes().into()));
    assert_eq!(put(json!("raw")), stored("3:raw"));
    assert_eq!(put(json!({"v": "hello", "seq": "ignored", "salt": 5})), stored("5:hello"));
    assert_eq!(put(json!({"v": 5, "k": ""})), stored("i5e"));
    assert_eq!(put(json!({"v": "é".repeat(499)})).map(|_| ()), Ok(()));
    assert_eq!(Put::read(None), Err(thrown("Cannot read properties of undefined (reading 'k')")));
    assert_eq!(put(json!(null)), Err(thrown("Cannot read properties of null (reading 'k')")));
    for nothing in [json!({}), json!(5), json!([1]), json!({"k": "aa"})] {
        assert_eq!(put(nothing), Err(message("opts.v not given")));
    }
    assert_eq!(put(json!({"v": null})), Err(message("Cannot read properties of null (reading 'length')")));
    for long in [json!("a".repeat(1000)), json!({"v": vec![1; 1000]})] {
        assert_eq!(put(long), Err(message("v must be less than 1000 bytes in put()")));
    }
}

#[test]
fn mutable_puts_are_checked_in_the_order_of_a_grape() {
    let key = "ab".repeat(32);
    let sig = "cd".repeat(64);
    let cases = [
        (json!({"k": "abcd", "v": "x".repeat(1000)}), "v must be less than 1000 bytes in put()"),
        (json!({"k": "abcd", "v": "x", "cas": "1"}), "opts.cas must be an integer if provided"),
        (json!({"k": "abcd", "v": "x"}), "opts.k ed25519 public key must be 32 bytes"),
        (
            json!({"k": key, "v": "x", "salt": "s".repeat(65)}),
            "opts.sign function or options.sig signature is required for mutable put",
        ),
        (json!({"k": key, "v": "x", "sig": sig, "salt": "s".repeat(65)}), "opts.salt is > 64 bytes long"),
        (json!({"k": key, "v": "x", "sig": sig}), "opts.seq not provided for a mutable update"),
        (json!({"k": key, "v": "x", "sig": sig, "seq": "1"}), "opts.seq not an integer"),
        (json!({"k": key, "v": "x", "sig": "cd", "seq": 1}), "All queries failed"),
    ];
    for (data, text) in cases {
        assert_eq!(Put::read(Some(data.clone())), Err(message(text)), "{data}");
    }
    let number = Put::read(Some(json!({"k": 5, "v": "x"})));
    assert_eq!(number, Err(thrown(&format!("{NOT_A_BUFFER}Received type number (5)"))));
}

#[test]
fn a_signed_item_comes_through_as_it_was_signed() {
    let v = crate::bep44::bencode_bytes("größe".as_bytes());
    let item = VerifiedItem::sign(&KeyPair::from_seed(&[1; 32]), b"s", 7, v).unwrap().into_inner();
    let sig = crate::identity::encode_hex(&item.sig.0);
    for k in [json!(item.k.to_string().to_uppercase()), json!(item.k.0), json!(format!("{:?}", item.k.0))] {
        let data = json!({"v": "größe", "k": k, "sig": sig, "seq": 7.0, "salt": "s", "cas": 6});
        assert_eq!(Put::read(Some(data)), Ok(Put::Mutable { item: item.clone(), cas: Some(6) }));
    }
}

#[test]
fn keys_signatures_salts_and_names_may_be_buffers_as_json_writes_them() {
    let item =
        VerifiedItem::sign(&KeyPair::from_seed(&[1; 32]), &[1, 2], 7, crate::bep44::bencode_bytes(b"v"));
    let item = item.unwrap().into_inner();
    let buffer = |bytes: &[u8]| json!({"type": "Buffer", "data": bytes});
    let like = |bytes: &[u8]| {
        let mut fields = Map::from_iter([("length".to_owned(), json!(bytes.len()))]);
        fields.extend(bytes.iter().enumerate().map(|(at, byte)| (at.to_string(), json!(byte))));
        Value::Object(fields)
    };
    let text = |bytes: &[u8]| json!(json!(bytes).to_string());
    let buffer_text = |bytes: &[u8]| json!(buffer(bytes).to_string());
    for form in [&buffer as &dyn Fn(&[u8]) -> Value, &like, &text, &buffer_text] {
        let (k, sig, salt) = (form(&item.k.0), form(&item.sig.0), form(&item.salt));
        let data = json!({"v": "v", "k": k, "sig": sig, "salt": salt, "seq": 7});
        assert_eq!(Put::read(Some(data)), Ok(Put::Mutable { item: item.clone(), cas: None }), "{salt}");
        let get = Get::read(Some(json!({"hash": "ab", "salt": salt}))).unwrap();
        assert_eq!(get.salt, [1, 2], "{salt}");
    }
    for (name, bytes) in [
        (buffer(b"ab"), &b"ab"[..]),
        (like(b"ab"), b"ab"),
        (json!(["97", 98.9, true, null, -1]), b"ab\x01\0\xff"),
        (json!({"length": "2"}), b""),
        (json!("[1,2]"), b"[1,2]"),
    ] {
        let read = Announce::read(Some(json!([name, 1])), 1);
        assert_eq!(read, Ok(Announce { name: bytes.to_vec(), port: 1 }), "{name}");
    }
    for odd in
        [json!({}), json!({"type": "Buffer"}), json!({"type": "x", "data": [1]}), json!({"length": 1e9})]
    {
        let read = Announce::read(Some(json!([odd, 1])), 1);
        assert_eq!(read, Err(thrown(&format!("{NOT_A_BUFFER}Received an instance of Object"))), "{odd}");
    }
}

/// A stock grape reads a salt as JSON where it is JSON of a string or of bytes.
#[test]
fn a_salt_is_its_text_unless_it_is_json_of_bytes_or_of_another_text() {
    for (salt, bytes) in [
        ("foobar", &b"foobar"[..]),
        ("12", b"12"),
        ("null", b"null"),
        ("[1,2]", &[1, 2]),
        (" [1, 2]", &[1, 2]),
        ("[1,2", b"[1,2"),
        ("\"a b\"", b"a b"),
        ("{\"a\":1}", b"{\"a\":1}"),
        ("größe", "größe".as_bytes()),
    ] {
        assert_eq!(Get::read(Some(json!({"hash": "ab", "salt": salt}))).unwrap().salt, bytes, "{salt}");
    }
}

#[test]
fn gets_read_hashes_as_node_reads_hex() {
    let get = |data| Get::read(Some(data));
    let found =
        |hash: &[u8], salt: &[u8], cached| Ok(Get { hash: hash.to_vec(), salt: salt.to_vec(), cached });
    assert_eq!(get(json!("aBcD")), found(&[0xab, 0xcd], b"", true));
    assert_eq!(get(json!("abzz12")), found(&[0xab], b"", true));
    assert_eq!(get(json!("zz")), found(&[], b"", true));
    assert_eq!(get(json!("1234")), found(&[0x12, 0x34], b"", true));
    assert_eq!(get(json!("[1,2]")), found(&[1, 2], b"", true));
    assert_eq!(get(json!({"hash": "ab", "salt": "s", "cache": false})), found(&[0xab], b"s", false));
    for generic in [json!({}), json!(5), json!([1]), json!({"hash": 5}), json!(true)] {
        assert_eq!(get(generic), Err(message("ERR_GRAPE_GENERIC")));
    }
    assert_eq!(Get::read(None), Err(thrown("Cannot read properties of undefined (reading 'salt')")));
    assert_eq!(get(json!(null)), Err(thrown("Cannot read properties of null (reading 'salt')")));
}

proptest! {
    #[test]
    fn any_body_is_read_without_a_panic(
        body in r#"\{"data":(\[|\{|)("(v|k|sig|seq|salt|cas|hash)":)?("[0-9a-g\\"]{0,70}"|-?[0-9.e]{1,9}|null|\[\]),?[\]\}]{0,2}\}"#,
    ) {
        if let Ok(data) = data_of(&body, None) {
            let _ = Announce::read(data.clone(), 1);
            let _ = Put::read(data.clone());
            let _ = Get::read(data.clone());
            let _ = lookup_name(data);
        }
    }
}
