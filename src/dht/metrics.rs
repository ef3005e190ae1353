//! The DHT node on the page that Prometheus reads.

use super::{
    DhtStatus,
    core::{Dropped, ErrorsOut},
};
use crate::metrics::Page;

impl DhtStatus {
    /// Writes everything down; the core counted it all along.
    pub fn write(&self, page: &mut Page) {
        let mut nodes = page.gauge(
            "vintner_dht_nodes",
            "Nodes in the routing tables: all, and those that answered when last asked",
        );
        nodes.at(&[("state", "all")], self.nodes);
        nodes.at(&[("state", "good")], self.nodes_good);
        let mut nodes6 = page.gauge("vintner_dht_ipv6_nodes", "Of these, the nodes of IPv6");
        nodes6.at(&[("state", "all")], self.nodes6);
        nodes6.at(&[("state", "good")], self.nodes6_good);
        for (name, help, value) in [
            (
                "vintner_dht_joined",
                "1 once other nodes are known, or none was named",
                usize::from(self.bootstrapped),
            ),
            ("vintner_dht_items", "Items stored, for others and for itself", self.items),
            ("vintner_dht_peers", "Announced peers stored, over all names", self.peers),
            ("vintner_dht_proven", "Public hosts that have shown that they are there", self.proven),
            ("vintner_dht_kept", "Own items and announcements that are renewed", self.kept),
            ("vintner_dht_operations", "Lookups and stores under way", self.operations),
            ("vintner_dht_queries_in_flight", "Queries that wait for an answer", self.queries_in_flight),
        ] {
            page.gauge(name, help).is(value);
        }
        for (name, help, value) in [
            ("vintner_dht_queries_received_total", "Queries of other nodes", self.queries_in),
            ("vintner_dht_queries_sent_total", "Queries sent, repeated ones included", self.queries_out),
            (
                "vintner_dht_answers_received_total",
                "Answers that belonged to a query, errors included",
                self.answers_in,
            ),
            (
                "vintner_dht_answers_cut_total",
                "Answers cut short, because their receiver had not shown that it is there",
                self.answers_cut,
            ),
            ("vintner_dht_audits_total", "Items looked for some time after they were put", self.audits),
            (
                "vintner_dht_repairs_total",
                "Of these, the ones put again because too few nodes held them",
                self.repairs,
            ),
            ("vintner_dht_timeouts_total", "Queries that nobody answered", self.timeouts),
            ("vintner_dht_unasked_total", "Answers that belonged to no query", self.unasked_in),
            ("vintner_dht_malformed_total", "Datagrams that were no KRPC message", self.malformed_in),
            (
                "vintner_dht_signature_checks_total",
                "Signatures of items that were checked",
                self.verifications,
            ),
            (
                "vintner_dht_bad_signatures_total",
                "Items whose signature was not their key's, in puts and in answers",
                self.bad_signatures,
            ),
        ] {
            page.counter(name, help).is(value);
        }
        let mut errors = page.counter(
            "vintner_dht_errors_sent_total",
            "Queries of other nodes that were refused, by KRPC code",
        );
        for code in ErrorsOut::CODES {
            errors.at(&[("code", &code.to_string())], self.errors_out.of(code));
        }
        let Dropped { operations, queries, checks, datagrams, answers, nodes, items, peers, kept } =
            self.dropped;
        page.bound("dht_datagrams", datagrams);
        page.bound("dht_answers", answers);
        page.bound("dht_nodes", nodes);
        page.bound("dht_operations", operations);
        page.bound("dht_queries", queries);
        page.bound("dht_signature_checks", checks);
        page.bound("dht_items", items);
        page.bound("dht_peers", peers);
        page.bound("dht_kept", kept);
    }
}
