//! KRPC of any bytes: what is understood is within its bounds and lies in the datagram, and what we would write in its place is
//! understood in the same way.

use vintner::dht::core::{
    NAME_BYTES_MAX, NodeId,
    bencode::is_canonical,
    krpc::{
        Ask, Message, NODE_BYTES, NODE6_BYTES, Query, Reply, TOKEN_BYTES_MAX, TRANSACTION_BYTES_MAX, Wanted,
        decode, write_query,
    },
};

/// See the module's page.
pub fn run(data: &[u8]) {
    match decode(data) {
        None => {}
        Some(Message::Query { t, query, .. }) => {
            assert!(t.is_none_or(|t| t.len() <= TRANSACTION_BYTES_MAX));
            match query {
                Ok(query) => check_query(query),
                Err(problem) => assert!(matches!(problem.code, 203 | 204) && !problem.text.is_empty()),
            }
        }
        Some(Message::Reply { t, reply, .. }) => {
            assert!(t.len() <= TRANSACTION_BYTES_MAX);
            check_reply(&reply);
        }
        Some(Message::Error { t, text, .. }) => {
            // Each byte that is no UTF-8 becomes three.
            assert!(t.len() <= TRANSACTION_BYTES_MAX && text.len() <= 3 * 200);
        }
    }
}

fn check_query(query: Query<'_>) {
    let target_of_put = [7; 20];
    let ask = match query {
        Query::Ping => Ask::Ping,
        Query::FindNode { target, .. } => {
            assert!(target.len() <= NAME_BYTES_MAX);
            Ask::FindNode { target, both: false }
        }
        Query::GetPeers { name, .. } => {
            assert!(name.len() <= NAME_BYTES_MAX);
            Ask::GetPeers { name }
        }
        Query::Announce { name, port, token } => {
            assert!(name.len() <= NAME_BYTES_MAX && port != Some(0));
            // We never leave the port to the other side.
            let Some(port) = port else { return };
            Ask::Announce { name, port, token }
        }
        // We do not ask for samples, nor for what is newer than something.
        Query::Sample { .. } | Query::Get { seq: Some(_), .. } => return,
        Query::Get { ref target, seq: None, .. } => Ask::Get { target },
        Query::Put { token, v, signed, cas } => {
            assert!(is_canonical(v));
            assert!(signed.is_none_or(|signed| signed.seq >= 0));
            Ask::Put { target: &target_of_put, token, v, signed, cas }
        }
    };
    let mut written = Vec::new();
    write_query(&mut written, *b"abcd", &NodeId([9; 20]), &ask);
    assert!(is_canonical(&written), "{}", written.escape_ascii());
    let Some(Message::Query { t, id, read_only, query: again }) = decode(&written) else {
        panic!("we do not understand ourselves: {}", written.escape_ascii())
    };
    assert_eq!((t, id, read_only), (Some(&b"abcd"[..]), Some(NodeId([9; 20])), false));
    assert_eq!(again.map(without_want), Ok(without_want(query)));
}

/// Which networks' nodes are wanted is for us to say, and a proof is asked for first.
fn without_want(query: Query<'_>) -> Query<'_> {
    let want = Wanted::default();
    match query {
        Query::FindNode { target, .. } => Query::FindNode { target, want },
        Query::GetPeers { name, .. } => Query::GetPeers { name, token: None, want },
        Query::Get { target, seq, .. } => Query::Get { target, seq, token: None, want },
        other => other,
    }
}

fn check_reply(reply: &Reply<'_>) {
    let contacts: Vec<_> = reply.contacts().collect();
    assert!(contacts.len() <= reply.nodes.len() / NODE_BYTES + reply.nodes6.len() / NODE6_BYTES);
    assert!(contacts.iter().all(|contact| contact.addr.port() != 0));
    assert!(reply.peers().all(|peer| peer.port() != 0));
    assert!(reply.token.is_none_or(|token| token.len() <= TOKEN_BYTES_MAX));
    assert!(reply.signed.is_none_or(|(_, _, seq)| seq >= 0));
}
