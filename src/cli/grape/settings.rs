//! The settings of a grape, and where each comes from: flags, then `VINTNER_GRAPE_*` in the environment, then a TOML file, then
//! a default, as for a node.
//!
//! Flags and names are those of the stock command. Three settings have no default, as there: whoever leaves one out has most
//! likely mistyped it. Each may come from any of the three places. A number with which a stock grape starts starts this one: what is
//! beyond what is possible here is brought within it, with a warning.

use super::script;
use crate::{
    cli::{
        addresses,
        logs::LogFormat,
        path::UserPath,
        settings::{MAINLINE_BOOTSTRAP, ipv6_beside, read_file},
    },
    dht::{DhtConfig, DhtEvent, PEER_AGE},
    http::grape::{Origin, PAYLOAD_BYTES_MAX},
};
use anyhow::{Context, Result, bail};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

/// The largest `--check_maxPayloadSize`: each connection may hold that much.
const PAYLOAD_BYTES_LIMIT: u64 = 16 * 1024 * 1024;
/// The largest `--dht_maxValues`, 1.5 GB of values.
const VALUES_LIMIT: u64 = 1_000_000;
/// The largest time, a year: beyond it `0` is meant, or something was mistyped.
const MS_LIMIT: u64 = 365 * 24 * 3600 * 1000;

/// Every setting. The flags and the file have the same shape.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    /// Address that HTTP listens on, and under which this grape knows its own announcements [default: 127.0.0.1 for HTTP]
    ///
    /// Without it, only programs on this machine reach the HTTP API (a stock grape would listen on every interface). The DHT's
    /// UDP port is open on every interface in any case.
    #[arg(short = 'b', long = "bind", alias = "b", env = "VINTNER_GRAPE_BIND", value_name = "ADDRESS")]
    #[serde(alias = "b")]
    bind: Option<Bind>,

    /// UDP port of the DHT (0: a free one) [required]
    #[arg(long = "dp", visible_alias = "dht_port", env = "VINTNER_GRAPE_DHT_PORT", value_name = "PORT", value_parser = script::port)]
    #[serde(alias = "dp")]
    dht_port: Option<u16>,

    /// TCP port of the HTTP API (0: a free one) [required]
    #[arg(long = "aph", visible_alias = "api_port", env = "VINTNER_GRAPE_API_PORT", value_name = "PORT", value_parser = script::port)]
    #[serde(alias = "aph")]
    api_port: Option<u16>,

    /// DHT nodes to join, `host:port,host:port`; an empty text for none [required]
    #[arg(
        long = "bn",
        visible_alias = "bootstrap",
        env = "VINTNER_GRAPE_BOOTSTRAP",
        value_name = "NODES",
        value_delimiter = ','
    )]
    #[serde(alias = "bn")]
    bootstrap: Option<Vec<String>>,

    /// Values stored at most; the least recently used goes first [default: 5000]
    #[arg(long = "dht_maxValues", env = "VINTNER_GRAPE_DHT_MAX_VALUES", value_name = "N", value_parser = script::number)]
    #[serde(rename = "dht_maxValues")]
    dht_max_values: Option<u64>,

    /// How long an announced peer is known without being announced again, in ms; 0 for ever [default: 420000]
    ///
    /// A stock link announces anew after 60 to 180 s. With the default, one of these announcements may be lost.
    #[arg(
        long = "dht_peer_maxAge",
        visible_alias = "dpa",
        env = "VINTNER_GRAPE_DHT_PEER_MAX_AGE",
        value_name = "MS",
        value_parser = script::number
    )]
    #[serde(rename = "dht_peer_maxAge", alias = "dpa")]
    dht_peer_max_age: Option<u64>,

    /// How long a node may be silent before it is pinged, in ms [default: 300000]
    #[arg(
        long = "dnl",
        visible_alias = "dht_nodeLiveness",
        env = "VINTNER_GRAPE_DHT_NODE_LIVENESS",
        value_name = "MS",
        value_parser = script::number
    )]
    #[serde(rename = "dht_nodeLiveness", alias = "dnl")]
    dht_node_liveness: Option<u64>,

    /// The longest HTTP body, in bytes [default: 8192]
    #[arg(long = "check_maxPayloadSize", env = "VINTNER_GRAPE_CHECK_MAX_PAYLOAD_SIZE", value_name = "BYTES", value_parser = script::number)]
    #[serde(rename = "check_maxPayloadSize")]
    check_max_payload_size: Option<u64>,

    /// A web page that may use the HTTP API, as `https://trade.example`; may be given more than once [default: none]
    ///
    /// Exactly what the page's browser sends as its Origin. Requests of all other pages are refused.
    #[arg(long, env = "VINTNER_GRAPE_ALLOW_ORIGIN", value_name = "ORIGIN", value_delimiter = ',')]
    #[serde(default, deserialize_with = "origins")]
    allow_origin: Option<Vec<Origin>>,

    /// Where this grape keeps what it knows, so that it knows it again after a restart [default: it keeps nothing]
    ///
    /// Its node id (for this address), the nodes that it knew, announced peers, and stored values. Made if it is missing; one
    /// process has it at a time.
    #[arg(long, env = "VINTNER_GRAPE_DATA_DIR", value_name = "DIR")]
    data_dir: Option<UserPath>,

    /// Serve `GET /events`: what happens in the DHT, as server-sent events [default: no]
    #[arg(long, env = "VINTNER_GRAPE_EVENTS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    events: Option<bool>,

    /// Take part in the DHT over IPv6, too, on the same port (BEP32) [default: no]
    #[arg(long, env = "VINTNER_GRAPE_IPV6", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    ipv6: Option<bool>,

    /// Use BitTorrent's public DHT, and follow its rules (BEP42, BEP43, names of 20 bytes) [default: no]
    ///
    /// --bn is then not required: without it, the public bootstrap nodes are asked.
    #[arg(long, env = "VINTNER_GRAPE_MAINLINE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    mainline: Option<bool>,

    /// In the file only: as --log-format
    #[arg(skip)]
    log_format: Option<LogFormat>,
}

/// Origins as texts.
fn origins<'a, D: Deserializer<'a>>(from: D) -> Result<Option<Vec<Origin>>, D::Error> {
    let texts = Vec::<String>::deserialize(from)?;
    let origins: Result<_, _> = texts.iter().map(|text| text.parse()).collect();
    origins.map(Some).map_err(serde::de::Error::custom)
}

fn show_origins<S: Serializer>(origins: &[Origin], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(origins.iter().map(Origin::to_string))
}

/// An IP address; `localhost` is the one name that means the same everywhere. An empty text is none, as an empty variable gives.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Bind(Option<IpAddr>);

impl FromStr for Bind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "" => return Ok(Self(None)),
            "localhost" => return Ok(Self(Some(Ipv4Addr::LOCALHOST.into()))),
            _ => {}
        }
        let wrong = |_| "give an IP address of this machine, such as 127.0.0.1 or 0.0.0.0".to_owned();
        text.parse().map(|ip| Self(Some(ip))).map_err(wrong)
    }
}

impl TryFrom<String> for Bind {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The settings as they are used; in this form `--print-config` shows them, and a file can hold them.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Effective {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) bind: Option<IpAddr>,
    pub(super) dht_port: u16,
    pub(super) api_port: u16,
    pub(super) bootstrap: Vec<String>,
    #[serde(rename = "dht_maxValues")]
    dht_max_values: u64,
    #[serde(rename = "dht_peer_maxAge")]
    dht_peer_max_age: u64,
    #[serde(rename = "dht_nodeLiveness")]
    dht_node_liveness: u64,
    #[serde(rename = "check_maxPayloadSize")]
    pub(super) check_max_payload_size: u64,
    #[serde(serialize_with = "show_origins")]
    pub(super) allow_origin: Vec<Origin>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) data_dir: Option<PathBuf>,
    pub(super) events: bool,
    ipv6: bool,
    mainline: bool,
    pub(super) log_format: LogFormat,
    /// What was made of settings that make no sense.
    #[serde(skip)]
    pub(super) warnings: Vec<String>,
}

impl Settings {
    /// Reads a file of settings.
    pub(super) fn of_file(file: &Path) -> Result<Self> {
        read_file(file, "vintner grape --print-config")
    }

    /// These settings where they are given, else those of the file.
    pub(super) fn or(self, file: Self) -> Self {
        Self {
            bind: self.bind.or(file.bind),
            dht_port: self.dht_port.or(file.dht_port),
            api_port: self.api_port.or(file.api_port),
            bootstrap: self.bootstrap.or(file.bootstrap),
            dht_max_values: self.dht_max_values.or(file.dht_max_values),
            dht_peer_max_age: self.dht_peer_max_age.or(file.dht_peer_max_age),
            dht_node_liveness: self.dht_node_liveness.or(file.dht_node_liveness),
            check_max_payload_size: self.check_max_payload_size.or(file.check_max_payload_size),
            allow_origin: self.allow_origin.or(file.allow_origin),
            data_dir: self.data_dir.or(file.data_dir),
            events: self.events.or(file.events),
            ipv6: self.ipv6.or(file.ipv6),
            mainline: self.mainline.or(file.mainline),
            log_format: self.log_format.or(file.log_format),
        }
    }

    /// Where the HTTP API is, as far as it is said; and the data directory.
    pub(super) fn place(&self) -> (Option<SocketAddr>, Option<&Path>) {
        let ip = self.bind.and_then(|bind| bind.0).unwrap_or(Ipv4Addr::LOCALHOST.into());
        let http = self.api_port.filter(|port| *port != 0).map(|port| SocketAddr::new(ip, port));
        (http, self.data_dir.as_deref())
    }

    /// The settings as they are used.
    pub(super) fn effective(self, log_format: Option<LogFormat>) -> Result<Effective> {
        let mainline = self.mainline.unwrap_or(false);
        let public = || MAINLINE_BOOTSTRAP.map(str::to_owned).to_vec();
        let bootstrap = self.bootstrap.or_else(|| mainline.then(public));
        let missing: Vec<&str> = [
            (self.dht_port.is_none(), "--dp (VINTNER_GRAPE_DHT_PORT, or dht_port in the file)"),
            (self.api_port.is_none(), "--aph (VINTNER_GRAPE_API_PORT, or api_port in the file)"),
            (bootstrap.is_none(), "--bn (VINTNER_GRAPE_BOOTSTRAP, or bootstrap in the file)"),
        ]
        .into_iter()
        .filter_map(|(missing, name)| missing.then_some(name))
        .collect();
        let (Some(dht_port), Some(api_port), Some(bootstrap)) = (self.dht_port, self.api_port, bootstrap)
        else {
            bail!(
                "missing required settings: {}; for a grape that joins nobody: \
                 vintner grape --dp 20001 --aph 30001 --bn ''",
                missing.join(", ")
            );
        };
        let mut warnings = Vec::new();
        Ok(Effective {
            bind: self.bind.and_then(|bind| bind.0),
            dht_port,
            api_port,
            bootstrap: addresses::bootstrap(bootstrap, "--bn")?,
            dht_max_values: within("dht_maxValues", self.dht_max_values, 5000, VALUES_LIMIT, &mut warnings),
            // Here 0 means something.
            dht_peer_max_age: match self.dht_peer_max_age {
                Some(0) => 0,
                age => within("dht_peer_maxAge", age, PEER_AGE.as_millis() as u64, MS_LIMIT, &mut warnings),
            },
            dht_node_liveness: within(
                "dht_nodeLiveness",
                self.dht_node_liveness,
                300_000,
                MS_LIMIT,
                &mut warnings,
            ),
            check_max_payload_size: within(
                "check_maxPayloadSize",
                self.check_max_payload_size,
                PAYLOAD_BYTES_MAX as u64,
                PAYLOAD_BYTES_LIMIT,
                &mut warnings,
            ),
            allow_origin: self.allow_origin.unwrap_or_default(),
            data_dir: self.data_dir.map(UserPath::into_path),
            events: self.events.unwrap_or(false),
            ipv6: self.ipv6.unwrap_or(false),
            mainline,
            log_format: log_format.or(self.log_format).unwrap_or_default(),
            warnings,
        })
    }
}

/// A number from 1 to `max`. With 0 a stock grape takes its default, and so does this one.
fn within(name: &str, given: Option<u64>, default: u64, max: u64, warnings: &mut Vec<String>) -> u64 {
    match given {
        Some(0) => {
            warnings.push(format!("--{name} 0 makes no sense, and is taken for the default, {default}"));
            default
        }
        Some(value) if value > max => {
            warnings.push(format!("--{name} {value} is more than is possible, and is taken for {max}"));
            max
        }
        given => given.unwrap_or(default),
    }
}

impl Effective {
    /// As a file of settings.
    pub(super) fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("the settings cannot be written as TOML")
    }

    /// Where HTTP listens.
    pub(super) fn http(&self) -> SocketAddr {
        SocketAddr::new(self.bind.unwrap_or(Ipv4Addr::LOCALHOST.into()), self.api_port)
    }

    /// The host that own announcements are known under here.
    fn host(&self) -> Option<IpAddr> {
        self.bind.filter(|host| !host.is_unspecified())
    }

    /// The address that the node id belongs to, as far as it is known.
    pub(super) fn identity_address(&self) -> SocketAddr {
        SocketAddr::new(self.host().unwrap_or(Ipv4Addr::UNSPECIFIED.into()), self.dht_port)
    }

    /// How long announced peers are known.
    pub(super) fn peer_max_age(&self) -> Duration {
        Duration::from_millis(self.dht_peer_max_age)
    }

    /// For the DHT node.
    pub(super) fn dht(&self, seed: [u8; 32]) -> DhtConfig {
        let listen = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, self.dht_port);
        let mut config = DhtConfig::new(listen, self.bootstrap.clone(), seed);
        config.host = self.host();
        config.ipv6 = self.ipv6.then(|| ipv6_beside(*listen.ip()));
        config.mainline = self.mainline;
        config.items_max = self.dht_max_values as usize;
        config.peer_max_age = self.peer_max_age();
        config.node_liveness = Duration::from_millis(self.dht_node_liveness);
        config.tells = |event| !matches!(event, DhtEvent::Stored(_) | DhtEvent::Address { .. });
        if !self.events {
            // Nobody can listen.
            config.tells = |_| false;
            config.events_max = 1;
        }
        config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn flags_stand_over_the_file_and_the_file_over_the_defaults() {
        let flags = Settings { dht_port: Some(1), ..Settings::default() };
        let used = flags.or(file(
            "dht_port = 9\naph = 2\nbootstrap = ['h:1']\ndpa = 3\nbind = 'localhost'\nevents = true",
        ));
        let used = used.effective(Some(LogFormat::Json)).unwrap();
        assert_eq!((used.dht_port, used.api_port, used.dht_peer_max_age), (1, 2, 3));
        assert_eq!(
            (used.bootstrap.as_slice(), used.http()),
            (&["h:1".to_owned()][..], "127.0.0.1:2".parse().unwrap())
        );
        assert!(used.events && used.log_format == LogFormat::Json);
        assert_eq!(used.dht([0; 32]).host, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
    }

    #[test]
    fn what_is_printed_is_a_file_that_says_the_same() {
        let used = file("dp = 1\naph = 2\nbn = []\ndata_dir = 'd'\nbind = '::1'").effective(None).unwrap();
        let printed = used.to_toml().unwrap();
        assert_eq!(file(&printed).effective(None).unwrap().to_toml().unwrap(), printed);
    }

    #[test]
    fn the_public_network_brings_its_bootstrap_nodes_and_what_is_given_stands_over_them() {
        let public = file("dp = 1\naph = 2\nmainline = true\nipv6 = true").effective(None).unwrap();
        assert_eq!(public.bootstrap, MAINLINE_BOOTSTRAP);
        let config = public.dht([0; 32]);
        assert!(config.mainline && config.ipv6.is_some());
        let given = file("dp = 1\naph = 2\nmainline = true\nbn = ['h:1']").effective(None).unwrap();
        assert_eq!(given.bootstrap, ["h:1"]);
        let plain = file("dp = 1\naph = 2\nbn = []").effective(None).unwrap().dht([0; 32]);
        assert!(!plain.mainline && plain.ipv6.is_none());
    }

    #[test]
    fn unknown_keys_and_what_does_nothing_are_refused() {
        for text in [
            "dht_prot = 1",
            "dht_concurrency = 1",
            "dht_maxTables = 1",
            "cache_maxAge = 1",
            "dp = 1\ndht_port = 1",
        ] {
            assert!(toml::from_str::<Settings>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_named_with_the_places_where_it_can_stand() {
        let said = file("dht_port = 1").effective(None).unwrap_err().to_string();
        assert!(said.contains("--aph (VINTNER_GRAPE_API_PORT, or api_port in the file), --bn ("), "{said}");
        assert!(!said.contains("--dp ("), "{said}");
    }

    #[test]
    fn numbers_out_of_bounds_are_brought_within_them_and_told_wherever_they_stand() {
        for (text, used, said) in [
            ("dht_maxValues = 0", "dht_maxValues = 5000", "--dht_maxValues 0 makes no sense"),
            ("dht_maxValues = 1000001", "dht_maxValues = 1000000", "is taken for 1000000"),
            ("dnl = 0", "dht_nodeLiveness = 300000", "--dht_nodeLiveness 0 makes no sense"),
            ("dpa = 0", "dht_peer_maxAge = 0", ""),
            (
                "dpa = 1000000000000",
                "dht_peer_maxAge = 31536000000",
                "--dht_peer_maxAge 1000000000000 is more",
            ),
            ("check_maxPayloadSize = 0", "check_maxPayloadSize = 8192", "taken for the default, 8192"),
            ("check_maxPayloadSize = 16777217", "check_maxPayloadSize = 16777216", "is taken for 16777216"),
        ] {
            let settings = file(&format!("dp = 1\naph = 2\nbn = []\n{text}")).effective(None).unwrap();
            let shown = settings.to_toml().unwrap();
            assert!(shown.lines().any(|line| line == used), "{used} is not in {shown}");
            let told = settings.warnings.join("\n");
            assert!(if said.is_empty() { told.is_empty() } else { told.contains(said) }, "{text}: {told}");
        }
    }

    #[test]
    fn pages_that_may_use_the_api_are_named_exactly() {
        let used = file(
            "dp = 1\naph = 2\nbn = []\nallow_origin = ['https://trade.example', 'http://localhost:8080']",
        );
        let used = used.effective(None).unwrap();
        assert_eq!(used.allow_origin.len(), 2);
        assert_eq!(file(&used.to_toml().unwrap()).effective(None).unwrap().allow_origin, used.allow_origin);
        assert!(toml::from_str::<Settings>("allow_origin = ['*']").is_err());
    }
}
