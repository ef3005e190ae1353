use super::*;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Note {
    network: Network,
    by: PublicKey,
    text: String,
}
impl Statement for Note {
    const KIND: &'static str = "note";
    const TEXT_BYTES_MAX: usize = 300;
    fn signer(&self) -> PublicKey {
        self.by
    }
    fn network(&self) -> &Network {
        &self.network
    }
}

fn key(seed: u8) -> KeyPair {
    KeyPair::from_seed(&[seed; 32])
}
fn net(name: &str) -> Network {
    name.parse().unwrap()
}
fn note(network: &str) -> Signed<Note> {
    Signed::sign(&key(1), Note { network: net(network), by: key(1).public(), text: "hello".into() })
}

#[test]
fn small_orders_are_all_there_and_refused_as_the_library_refuses_them() {
    let weak: std::collections::BTreeSet<_> = SMALL_ORDER
        .into_iter()
        .filter(|point| VerifyingKey::from_bytes(point).is_ok_and(|key| key.is_weak()))
        .collect();
    assert_eq!(weak.len(), 8, "the torsion subgroup has eight points");
    // With a weak key, R = s B - k A is of small order where s = 0: a signature that fits about one message in eight.
    let mut accepted_unless_strict = 0;
    for (key, r) in SMALL_ORDER.iter().flat_map(|key| SMALL_ORDER.iter().map(move |r| (key, r))) {
        let mut sig = [0; 64];
        sig[..32].copy_from_slice(r);
        assert!(!PublicKey(*key).verifies(b"pay me", &Signature(sig)));
        let (key, sig) = (VerifyingKey::from_bytes(key).unwrap(), ed25519_dalek::Signature::from_bytes(&sig));
        assert!(key.verify_strict(b"pay me", &sig).is_err());
        accepted_unless_strict += usize::from(key.verify(b"pay me", &sig).is_ok());
    }
    assert!(accepted_unless_strict > 0, "nothing here is refused for its small order");
}

proptest::proptest! {
    #[test]
    fn one_rule_with_the_library(seed: [u8; 32], message: Vec<u8>, at in 0usize..96, flip: u8) {
        let key = KeyPair::from_seed(&seed);
        let (mut public, mut sig) = (key.public(), key.sign(&message));
        match at {
            0..64 => sig.0[at] ^= flip,
            _ => public.0[at - 64] ^= flip,
        }
        let strict = VerifyingKey::from_bytes(&public.0).is_ok_and(|key| {
            key.verify_strict(&message, &ed25519_dalek::Signature::from_bytes(&sig.0)).is_ok()
        });
        proptest::prop_assert_eq!(public.verifies(&message, &sig), strict);
        proptest::prop_assert_eq!(strict, flip == 0);
    }
}

#[test]
fn a_signed_statement_verifies_and_keeps_its_bytes() {
    let signed = note("test");
    let again = Signed::<Note>::verify(signed.source().clone(), &net("test")).unwrap();
    assert_eq!(again, signed);
}

#[test]
fn changed_text_other_signer_other_network_and_oversize_are_refused() {
    let verify = |source| Signed::<Note>::verify(source, &net("test")).unwrap_err();
    let good = note("test").source().clone();
    let changed = SignedText { text: good.text.replace("hello", "jello"), ..good.clone() };
    assert!(matches!(verify(changed), StatementError::BadSignature { .. }));
    let stolen = good.text.replace(&key(1).public().to_string(), &key(2).public().to_string());
    assert!(matches!(
        verify(SignedText { text: stolen, ..good.clone() }),
        StatementError::BadSignature { .. }
    ));
    assert!(matches!(verify(note("other").source().clone()), StatementError::WrongNetwork { .. }));
    let long = SignedText { text: " ".repeat(301), ..good.clone() };
    assert!(matches!(verify(long), StatementError::TooLong { .. }));
    assert!(matches!(verify(SignedText { text: "{}".into(), ..good }), StatementError::Malformed { .. }));
}

#[test]
fn a_signature_for_one_purpose_is_none_for_another() {
    let network = net("test");
    let sig = Domain { network: &network, kind: "bid" }.sign(&key(1), b"x");
    assert!(Domain { network: &network, kind: "bid" }.verifies(&key(1).public(), b"x", &sig));
    assert!(!Domain { network: &network, kind: "trade" }.verifies(&key(1).public(), b"x", &sig));
    assert!(!Domain { network: &net("tes"), kind: "bid" }.verifies(&key(1).public(), b"x", &sig));
}

#[test]
fn keys_derive_from_the_master_key_alone_and_differ_by_purpose() {
    let master = MasterKey::from_bytes([7; 32]);
    let id = uuid::Uuid::from_u128(1);
    assert_eq!(master.client_key().public(), MasterKey::from_bytes([7; 32]).client_key().public());
    assert_eq!(master.record_key(id).public(), master.record_key(id).public());
    assert_ne!(master.record_key(id).public(), master.record_key(uuid::Uuid::from_u128(2)).public());
    assert_ne!(master.record_key(id).public(), master.client_key().public());
}

#[test]
fn secrets_are_not_printed() {
    let printed = format!("{:?} {:?}", MasterKey::from_bytes([0xab; 32]), key(0xab));
    assert!(!printed.contains("abab"), "{printed}");
}

#[test]
fn names_of_networks_are_checked() {
    for bad in ["", "Upper", "with space", "dot.", "ü", &"a".repeat(33)] {
        assert!(bad.parse::<Network>().is_err(), "{bad:?}");
    }
}
