//! The settings of a node, and where each comes from: flags, then `VINTNER_*` in the environment, then a TOML file, then a
//! default that runs as it stands on one machine.

use super::{addresses, container, exit::WrongUsage, join, logs::LogFormat, path::UserPath};
use crate::{
    exchange::MaxNotionalEntry,
    http::api::{ApiConfig, ApiToken, Published, TOKEN_BYTES_MAX},
    identity::Network,
    node::NodeConfig,
    store::keyfile,
};
use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize, Serializer, de::DeserializeOwned};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4},
    path::{Path, PathBuf},
};

/// The default ports.
pub(super) const API_PORT: u16 = 4000;
pub(super) const RPC_PORT: u16 = 1337;
pub(super) const DHT_PORT: u16 = 20_011;

/// Every setting, none of them required. The flags and the file have the same shape.
#[derive(Clone, Debug, Default, clap::Args, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where the REST API listens [default: 127.0.0.1:4000]
    #[arg(long, env = "VINTNER_API", value_name = "ADDR:PORT")]
    pub(super) api: Option<SocketAddr>,

    /// Where other nodes' RPC is served [default: 127.0.0.1:1337, with --mainline 0.0.0.0:1337]
    #[arg(long, env = "VINTNER_RPC", value_name = "ADDR:PORT")]
    pub(super) rpc: Option<SocketAddr>,

    /// The DHT's UDP socket [default: 127.0.0.1:20011, with --mainline 0.0.0.0:20011]
    #[arg(long, env = "VINTNER_DHT", value_name = "ADDR:PORT")]
    pub(super) dht: Option<SocketAddrV4>,

    /// Take part in the DHT over IPv6, too, on the same port (BEP32)
    #[arg(long, env = "VINTNER_IPV6", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) ipv6: Option<bool>,

    /// Use BitTorrent's public DHT, and follow its rules (BEP42, BEP43, names of 20 bytes)
    ///
    /// RPC and DHT then listen on every interface (0.0.0.0:1337 and 0.0.0.0:20011), because other nodes must reach both, and the
    /// bootstrap nodes are the public ones, unless others are given.
    #[arg(long, env = "VINTNER_MAINLINE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) mainline: Option<bool>,

    /// DHT nodes to start from; an empty text for none [default: 127.0.0.1:20001]
    #[arg(long, env = "VINTNER_BOOTSTRAP", value_name = "HOST:PORT,...", value_delimiter = ',')]
    pub(super) bootstrap: Option<Vec<String>>,

    /// Join the network of this node: the address of its API or its RPC, such as 127.0.0.1:4000
    ///
    /// The network and the DHT nodes to start from are that node's. Ports that are not given are the defaults, or where these are
    /// taken, free ones after them. The data is in .vintner/joined/NETWORK/node-1, or where a running node has that, in node-2,
    /// and so on. The same line started again is the same node again, also while the node that it names is away.
    #[arg(long, env = "VINTNER_JOIN", value_name = "ADDR:PORT")]
    pub(super) join: Option<String>,

    /// Where keys and the store are kept [default: .vintner/node; with --join, see there]
    #[arg(long, env = "VINTNER_DATA_DIR", value_name = "DIR")]
    pub(super) data_dir: Option<UserPath>,

    /// The market: nodes of different networks do not see each other [default: vintner; with --join, that node's]
    ///
    /// `vintner devnet` and `make start-all` run a network named devnet, so that trials and trading never meet.
    #[arg(long, env = "VINTNER_NETWORK", value_name = "NAME")]
    pub(super) network: Option<Network>,

    /// What you call this node: shown on its own page, told to nobody [default: the API's address]
    #[arg(long, env = "VINTNER_NAME", value_name = "TEXT", value_parser = node_name)]
    pub(super) name: Option<String>,

    /// Addresses at which other nodes reach this node's RPC, four at most, when they differ from --rpc
    #[arg(long, env = "VINTNER_ADVERTISE", value_name = "ADDR:PORT,...", value_delimiter = ',')]
    pub(super) advertise: Option<Vec<String>>,

    /// Connect to other nodes on loopback and private addresses [default: only when --rpc and --dht are both on such ones]
    ///
    /// Never by default with --mainline: there anybody can name an address in the network that this machine is in.
    #[arg(long, env = "VINTNER_ALLOW_PRIVATE", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) allow_private: Option<bool>,

    /// The most that one offer or bid may be worth, quantity times price: an amount for every currency, CODE=AMOUNT for one
    ///
    /// Such as 100000,JPY=15000000. What is worth more is refused by this node, whoever asks for it. None by default.
    #[arg(long, env = "VINTNER_MAX_NOTIONAL", value_name = "[CODE=]AMOUNT,...", value_delimiter = ',')]
    pub(super) max_notional: Option<Vec<String>>,

    /// File with the token that every API request must show [default: DATA_DIR/api-token, made, when --api is not loopback]
    #[arg(long, visible_alias = "api-token-file", env = "VINTNER_TOKEN_FILE", value_name = "FILE")]
    pub(super) token_file: Option<UserPath>,

    /// Serve the API to other machines without a token: for closed test networks only
    #[arg(long, env = "VINTNER_INSECURE_NO_TOKEN", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub(super) insecure_no_token: Option<bool>,

    /// In a container: the address on the host's loopback at which the engine publishes the API, which then needs no token
    ///
    /// Such as 127.0.0.1:4000 for `docker run -p 127.0.0.1:4000:4000` with --api 0.0.0.0:4000. The host's own programs are
    /// served as on loopback; other containers and other machines are refused. Not for containers on the host's own network.
    #[arg(long, env = "VINTNER_API_PUBLISHED", value_name = "ADDR:PORT")]
    pub(super) api_published: Option<SocketAddr>,

    /// Addresses from which the engine forwards to --api-published [default: the container's gateway]
    #[arg(long, env = "VINTNER_API_PUBLISHED_FROM", value_name = "ADDR,...", value_delimiter = ',')]
    pub(super) api_published_from: Option<Vec<String>>,

    /// In the file only: as --log-format
    #[arg(skip)]
    pub(super) log_format: Option<LogFormat>,
}

/// The settings of a command that is about a node, and the file of settings.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SettingsArgs {
    #[command(flatten)]
    settings: Settings,

    /// TOML file of settings, with the names of the flags: data_dir = "/srv/vintner"
    #[arg(long, env = "VINTNER_CONFIG", value_name = "FILE")]
    config: Option<UserPath>,
}

impl SettingsArgs {
    /// The settings as they are used by a node that runs, or would be by one that has run before: nobody is asked.
    pub(crate) fn effective(self, log_format: Option<LogFormat>) -> Result<Effective> {
        let given = self.given(log_format)?;
        let given = if given.join.is_some() { join::as_last_time(given)? } else { given };
        given.finish()
    }

    /// What is given: flags and variables over the file.
    pub(crate) fn given(self, log_format: Option<LogFormat>) -> Result<Settings> {
        let file = self.config.as_deref().map(Settings::of_file).transpose().map_err(WrongUsage::of)?;
        let given = self.settings.or(file.unwrap_or_default());
        Ok(Settings { log_format: log_format.or(given.log_format), ..given })
    }
}

/// Only where the data is, for a command that needs no other setting.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DataDirArgs {
    /// The node's data directory [default: .vintner/node]
    #[arg(long, env = "VINTNER_DATA_DIR", value_name = "DIR")]
    data_dir: Option<UserPath>,

    /// The node's TOML file of settings, to find the data directory
    #[arg(long, env = "VINTNER_CONFIG", value_name = "FILE")]
    config: Option<UserPath>,
}

impl DataDirArgs {
    /// The directory that the node uses with the same settings.
    pub(crate) fn find(self) -> Result<PathBuf> {
        let settings = Settings { data_dir: self.data_dir, ..Settings::default() };
        Ok(SettingsArgs { settings, config: self.config }.effective(None)?.data_dir)
    }
}

/// The settings as they are used; in this form `--print-config` shows them, and a file can hold them.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Effective {
    pub(crate) api: SocketAddr,
    pub(crate) rpc: SocketAddr,
    pub(crate) dht: SocketAddrV4,
    pub(crate) ipv6: bool,
    pub(crate) mainline: bool,
    pub(crate) bootstrap: Vec<String>,
    pub(crate) data_dir: PathBuf,
    pub(crate) network: Network,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    advertise: Vec<SocketAddr>,
    pub(crate) allow_private: bool,
    #[serde(skip_serializing_if = "Vec::is_empty", serialize_with = "as_texts")]
    max_notional: Vec<MaxNotionalEntry>,
    /// The file's name; what it holds is a secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
    insecure_no_token: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_published: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    api_published_from: Vec<IpAddr>,
    pub(crate) log_format: LogFormat,
}

impl Settings {
    /// Reads a file of settings.
    pub(crate) fn of_file(file: &Path) -> Result<Self> {
        read_file(file, "vintner node --print-config")
    }

    /// These settings where they are given, else those of the file.
    fn or(self, file: Self) -> Self {
        Self {
            api: self.api.or(file.api),
            rpc: self.rpc.or(file.rpc),
            dht: self.dht.or(file.dht),
            ipv6: self.ipv6.or(file.ipv6),
            mainline: self.mainline.or(file.mainline),
            bootstrap: self.bootstrap.or(file.bootstrap),
            join: self.join.or(file.join).filter(|join| !join.is_empty()),
            data_dir: self.data_dir.or(file.data_dir),
            network: self.network.or(file.network),
            name: self.name.or(file.name),
            advertise: self.advertise.or(file.advertise),
            allow_private: self.allow_private.or(file.allow_private),
            max_notional: self.max_notional.or(file.max_notional),
            token_file: self.token_file.or(file.token_file),
            insecure_no_token: self.insecure_no_token.or(file.insecure_no_token),
            api_published: self.api_published.or(file.api_published),
            api_published_from: self.api_published_from.or(file.api_published_from),
            log_format: self.log_format.or(file.log_format),
        }
    }

    #[cfg(test)]
    fn over(self, file: Self, log_format: Option<LogFormat>) -> Result<Effective> {
        let given = self.or(file);
        Self { log_format: log_format.or(given.log_format), ..given }.finish()
    }

    /// These settings, over the defaults.
    pub(crate) fn finish(self) -> Result<Effective> {
        self.with_defaults().map_err(WrongUsage::of)
    }

    fn with_defaults(self) -> Result<Effective> {
        let default = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let named = |list: Vec<String>| list.into_iter().filter(|entry| !entry.is_empty());
        let mainline = self.mainline.unwrap_or(false);
        let ip = if mainline { Ipv4Addr::UNSPECIFIED } else { Ipv4Addr::LOCALHOST };
        let rpc = self.rpc.unwrap_or_else(|| (ip, RPC_PORT).into());
        let dht = self.dht.unwrap_or_else(|| SocketAddrV4::new(ip, DHT_PORT));
        let ipv6 = self.ipv6.unwrap_or(false);
        let listens =
            [rpc.ip(), (*dht.ip()).into()].into_iter().chain(ipv6.then(|| ipv6_beside(*dht.ip()).into()));
        let network = match self.network {
            Some(network) => network,
            None => "vintner".parse().context("the default network's name")?,
        };
        let advertise = addresses::advertise(self.advertise.unwrap_or_default())?;
        let published_from = self.api_published_from.unwrap_or_default();
        let published_from: Result<Vec<IpAddr>> = named(published_from)
            .map(|text| {
                text.parse().with_context(|| format!("--api-published-from {text:?} is not an IP address"))
            })
            .collect();
        let bootstrap = self.bootstrap.unwrap_or_else(|| default_bootstrap(mainline));
        let max_notional: Result<Vec<MaxNotionalEntry>> = named(self.max_notional.unwrap_or_default())
            .map(|text| {
                text.parse().map_err(|error| {
                    anyhow!("--max-notional {text:?}: {error}; write it as 100000 or JPY=15000000")
                })
            })
            .collect();
        Ok(Effective {
            api: addresses::plain(self.api.unwrap_or_else(|| default(API_PORT))),
            rpc: addresses::plain(rpc),
            dht,
            ipv6,
            mainline,
            bootstrap: addresses::bootstrap(bootstrap, "--bootstrap")?,
            data_dir: self.data_dir.unwrap_or_else(|| ".vintner/node".into()).into_path(),
            network,
            name: self.name.as_deref().map(node_name).transpose().map_err(anyhow::Error::msg)?,
            advertise,
            allow_private: self.allow_private.unwrap_or_else(|| addresses::allows_private(mainline, listens)),
            max_notional: max_notional?,
            token_file: self.token_file.map(UserPath::into_path),
            insecure_no_token: self.insecure_no_token.unwrap_or(false),
            api_published: self.api_published,
            api_published_from: published_from?,
            log_format: self.log_format.unwrap_or_default(),
        })
    }
}

impl Effective {
    /// As a file of settings.
    pub(crate) fn to_toml(&self) -> Result<String> {
        toml::to_string(self).context("the settings cannot be written as TOML")
    }

    /// For the node.
    pub(crate) fn node(&self) -> NodeConfig {
        NodeConfig {
            network: self.network.clone(),
            data_dir: self.data_dir.clone(),
            rpc: self.rpc,
            dht: self.dht,
            dht_ipv6: self.ipv6.then(|| ipv6_beside(*self.dht.ip())),
            mainline: self.mainline,
            new_store: false,
            bootstrap: self.bootstrap.clone(),
            advertise: self.advertise.clone(),
            allow_private: self.allow_private,
            max_notional: self.max_notional.iter().copied().collect(),
        }
    }

    /// The file that the API's token is read from, or made in; `None` when the API asks for none.
    pub(crate) fn token_path(&self) -> Option<PathBuf> {
        let needed = !self.api.ip().is_loopback() && !self.insecure_no_token && self.api_published.is_none();
        let made = || needed.then(|| self.data_dir.join(keyfile::TOKEN_FILE));
        self.token_file.clone().or_else(made)
    }

    /// For its API; reads the token, or makes one where one is needed. The data directory must exist.
    pub(crate) fn api(&self) -> Result<ApiConfig> {
        let published = match self.api_published {
            Some(addr) if self.api_published_from.is_empty() => {
                Some(Published { addr, from: container::gateways()? })
            }
            Some(addr) => Some(Published { addr, from: self.api_published_from.clone() }),
            None => None,
        };
        let token = match (&self.token_file, self.token_path()) {
            (Some(file), _) => Some(read_token(file)?),
            (None, Some(file)) => Some(keyfile::load_or_create_token(&file)?.to_string()),
            (None, None) => None,
        };
        let token = token.map(|text| ApiToken::new(&text)).transpose();
        let token =
            token.context("the token file is not usable; `openssl rand -hex 32` makes a good token")?;
        Ok(ApiConfig {
            addr: self.api,
            token,
            insecure_no_token: self.insecure_no_token,
            name: self.name.clone(),
            published,
        })
    }
}

/// A name that fits a browser's tab.
fn node_name(text: &str) -> Result<String, String> {
    const CHARS_MAX: usize = 64;
    let fits = (1..=CHARS_MAX).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if fits {
        Ok(text.into())
    } else {
        Err(format!("a name has 1 to {CHARS_MAX} characters, none of them a control character"))
    }
}

fn as_texts<S: Serializer>(entries: &[MaxNotionalEntry], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(entries.iter().map(ToString::to_string))
}

/// Reads a TOML file of settings; `shown_by` is the command that prints one.
pub(super) fn read_file<T: DeserializeOwned>(file: &Path, shown_by: &str) -> Result<T> {
    let text = fs::read_to_string(file)
        .with_context(|| format!("cannot read the settings in {}; check --config", file.display()))?;
    toml::from_str(&text).with_context(|| {
        format!("the settings in {} are not valid; `{shown_by}` shows the form", file.display())
    })
}

/// Where the public network is joined: those who run them say so in their programs' settings.
pub(crate) const MAINLINE_BOOTSTRAP: [&str; 4] = [
    "router.bittorrent.com:6881",
    "dht.transmissionbt.com:6881",
    "dht.libtorrent.org:25401",
    "router.utorrent.com:6881",
];

fn default_bootstrap(mainline: bool) -> Vec<String> {
    let of = |nodes: &[&str]| nodes.iter().map(|node| (*node).to_owned()).collect();
    if mainline { of(&MAINLINE_BOOTSTRAP) } else { of(&["127.0.0.1:20001"]) }
}

/// The IPv6 address that means what an IPv4 one does: every interface, or this machine alone.
pub(crate) fn ipv6_beside(ip: Ipv4Addr) -> Ipv6Addr {
    if ip.is_loopback() { Ipv6Addr::LOCALHOST } else { Ipv6Addr::UNSPECIFIED }
}

/// The token in a file that only its owner can read.
pub(crate) fn read_token(file: &Path) -> Result<String> {
    let at = || format!("cannot read the token in {}; check --token-file", file.display());
    let about = fs::metadata(file).with_context(at)?;
    #[cfg(unix)]
    if std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o077 != 0 {
        bail!("others can read the token in {0}; run `chmod 600 {0}`", file.display());
    }
    if about.len() > TOKEN_BYTES_MAX as u64 + 2 {
        bail!("{} is too long for a token of at most {TOKEN_BYTES_MAX} characters", file.display());
    }
    Ok(fs::read_to_string(file).with_context(at)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Settings {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn flags_stand_over_the_file_and_the_file_over_the_defaults() {
        let flags = Settings { api: "127.0.0.1:1".parse().ok(), ..Settings::default() };
        let used = flags.over(file("api = '127.0.0.1:2'\nrpc = '0.0.0.0:3'\nbootstrap = []"), None).unwrap();
        assert_eq!((used.api.port(), used.rpc.port(), used.dht.port()), (1, 3, 20_011));
        assert!(used.bootstrap.is_empty() && !used.allow_private);
        let used = Settings::default().over(Settings::default(), Some(LogFormat::Json)).unwrap();
        assert!(used.allow_private && used.log_format == LogFormat::Json);
        assert_eq!(used.bootstrap, ["127.0.0.1:20001"]);
    }

    #[test]
    fn what_is_printed_is_a_file_that_says_the_same() {
        let flags = Settings { token_file: Some("t".into()), ..Settings::default() };
        let used = flags.over(Settings::default(), None).unwrap();
        let printed = used.to_toml().unwrap();
        let again = Settings::default().over(file(&printed), None).unwrap();
        assert_eq!(again.to_toml().unwrap(), printed);
    }

    #[test]
    fn mainline_brings_its_own_defaults_and_what_is_given_stands_over_them() {
        let used = Settings { mainline: Some(true), ipv6: Some(true), ..Settings::default() };
        let used = used.over(Settings::default(), None).unwrap();
        assert_eq!(
            (used.dht, &used.bootstrap[0][..]),
            ("0.0.0.0:20011".parse().unwrap(), MAINLINE_BOOTSTRAP[0])
        );
        assert!(used.rpc == "0.0.0.0:1337".parse().unwrap() && !used.allow_private);
        let node = used.node();
        assert!(node.mainline && node.dht_ipv6 == Some(Ipv6Addr::UNSPECIFIED));
        let given = file("mainline = true\nipv6 = true\nbootstrap = ['h:1']\ndht = '127.0.0.1:9'");
        let used = Settings::default().over(given, None).unwrap();
        assert_eq!(
            (used.dht.port(), used.bootstrap.len(), used.node().dht_ipv6),
            (9, 1, Some(Ipv6Addr::LOCALHOST))
        );
        let told = Settings::default().over(file("mainline = true\nallow_private = true"), None).unwrap();
        assert!(told.allow_private, "its owner has said so");
        let inside = file("mainline = true\nrpc = '10.0.0.1:1'\ndht = '10.0.0.1:1'");
        assert!(!Settings::default().over(inside, None).unwrap().allow_private);
        let plain = Settings::default().over(Settings::default(), None).unwrap().node();
        assert!(!plain.mainline && plain.dht_ipv6.is_none());
    }

    #[test]
    fn addresses_in_the_form_of_ipv6_are_plain_ones() {
        let mapped =
            "api = '[::ffff:127.0.0.1]:1'\nrpc = '[::ffff:10.0.0.1]:2'\nadvertise = ['[::ffff:51.0.1.1]:3']";
        let used = Settings::default().over(file(mapped), None).unwrap();
        assert!(used.token_path().is_none(), "the API is on loopback");
        assert_eq!(used.rpc.to_string(), "10.0.0.1:2");
        assert_eq!(used.node().advertise, ["51.0.1.1:3".parse().unwrap()]);
        for bad in ["bootstrap = ['10.9.0.1']", "advertise = ['0.0.0.0:0']"] {
            assert!(Settings::default().over(file(bad), None).is_err(), "{bad}");
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(toml::from_str::<Settings>("apii = '127.0.0.1:2'").is_err());
    }
}
