"""A libtorrent session as a DHT node of the tests, driven by lines of JSON.

python libtorrent_peer.py 127.0.0.1:20001 ... joins through these nodes and prints {"event": "ready", "dht": PORT}. Each line on
standard input is a command; its outcome is one line with the same "n":
  {"n": 1, "do": "announce", "hash": HEX, "port": PORT}          {"n": 1, "done": true}
  {"n": 2, "do": "lookup", "hash": HEX}                          {"n": 2, "peers": ["127.0.0.1:1337"]}
  {"n": 3, "do": "put", "text": TEXT}                            {"n": 3, "target": HEX, "stored_on": 3}
  {"n": 4, "do": "get", "target": HEX}                           {"n": 4, "text": TEXT or null}
  {"n": 5, "do": "put_signed", "seed": HEX, "key": HEX, "text": TEXT, "salt": SALT}    {"n": 5, "seq": 1, "stored_on": 3}
  {"n": 6, "do": "get_signed", "key": HEX, "salt": SALT}         {"n": 6, "text": TEXT or null, "seq": 1}
  {"n": 7, "do": "nodes"}                                        {"n": 7, "nodes": 3}
  {"n": 8, "do": "put_both", "text": TEXT, "signed_text": TEXT, "seed": HEX, "key": HEX}
                                                                 {"n": 8, "stored_on": 3, "signed_stored_on": 3}
"""

import hashlib
import json
import sys
import threading
import time

import libtorrent as lt

PATIENCE = 25


def say(**line):
    print(json.dumps(line), flush=True)


# Everything on loopback, where all nodes have one address; and no limits, which are for strangers.
session = lt.session(
    {
        # Of the family of those whom it joins through.
        "listen_interfaces": "[::1]:0" if sys.argv[1].startswith("[") else "127.0.0.1:0",
        "enable_dht": True,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "dht_bootstrap_nodes": ",".join(sys.argv[1:]),
        "dht_restrict_routing_ips": False,
        "dht_restrict_search_ips": False,
        "dht_ignore_dark_internet": False,
        "dht_prefer_verified_node_ids": False,
        "dht_block_ratelimit": 100000,
        "allow_multiple_connections_per_ip": True,
        "alert_mask": lt.alert.category_t.all_categories,
    }
)


def wait_for(kind, fits=lambda alert: True):
    """The first alert of a kind that fits, or None when none comes in time."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        session.wait_for_alert(100)
        for alert in session.pop_alerts():
            if isinstance(alert, kind) and fits(alert):
                return alert
    return None


def expanded(seed):
    """The private key as libtorrent wants it: the SHA-512 of the seed, clamped (RFC 8032, 5.1.5)."""
    key = bytearray(hashlib.sha512(seed).digest())
    key[0] &= 248
    key[31] = key[31] & 63 | 64
    return bytes(key)


def text_of(item):
    return item.decode() if isinstance(item, bytes) else item


def announce(command):
    session.dht_announce(lt.sha1_hash(bytes.fromhex(command["hash"])), command["port"], 0)
    return {"done": True}


def lookup(command):
    wanted = lt.sha1_hash(bytes.fromhex(command["hash"]))
    session.dht_get_peers(wanted)
    alert = wait_for(lt.dht_get_peers_reply_alert, lambda alert: alert.info_hash == wanted)
    return {"peers": [f"{host}:{port}" for host, port in alert.peers()] if alert else []}


def put(command):
    target = session.dht_put_immutable_item(command["text"].encode())
    alert = wait_for(lt.dht_put_alert, lambda alert: alert.target == target)
    return {"target": str(target), "stored_on": alert.num_success if alert else 0}


def get(command):
    target = lt.sha1_hash(bytes.fromhex(command["target"]))
    session.dht_get_immutable_item(target)
    alert = wait_for(lt.dht_immutable_item_alert, lambda alert: alert.target == target)
    return {"text": text_of(alert.item) if alert else None}


def put_signed(command):
    seed, salt = bytes.fromhex(command["seed"]), command.get("salt", "")
    session.dht_put_mutable_item(expanded(seed), bytes.fromhex(command["key"]), command["text"].encode(), salt.encode())
    alert = wait_for(lt.dht_put_alert)
    return {"seq": alert.seq if alert else None, "stored_on": alert.num_success if alert else 0}


def get_signed(command):
    session.dht_get_mutable_item(bytes.fromhex(command["key"]), command.get("salt", "").encode())
    alert = wait_for(lt.dht_mutable_item_alert, lambda alert: alert.authoritative or alert.item)
    return {"text": text_of(alert.item) if alert else None, "seq": alert.seq if alert else None}


def put_both(command):
    """Both at once: each waits 15 seconds for every node that says nothing."""
    target = session.dht_put_immutable_item(command["text"].encode())
    seed, key = bytes.fromhex(command["seed"]), bytes.fromhex(command["key"])
    session.dht_put_mutable_item(expanded(seed), key, command["signed_text"].encode(), b"")
    stored_on = {}

    def both(alert):
        stored_on[alert.target == target] = alert.num_success
        return len(stored_on) == 2

    wait_for(lt.dht_put_alert, both)
    return {"stored_on": stored_on.get(True, 0), "signed_stored_on": stored_on.get(False, 0)}


def nodes(_):
    session.post_dht_stats()
    alert = wait_for(lt.dht_stats_alert)
    return {"nodes": sum(bucket["num_nodes"] for bucket in alert.routing_table) if alert else 0}


COMMANDS = {
    "announce": announce,
    "lookup": lookup,
    "put": put,
    "get": get,
    "put_signed": put_signed,
    "get_signed": get_signed,
    "nodes": nodes,
    "put_both": put_both,
}

while not session.listen_port():
    time.sleep(0.02)
for node in sys.argv[1:]:
    host, port = node.rsplit(":", 1)
    session.add_dht_node((host.strip("[]"), int(port)))
say(event="ready", dht=session.listen_port())
for line in sys.stdin:
    command = json.loads(line)
    say(n=command["n"], **COMMANDS[command["do"]](command))
