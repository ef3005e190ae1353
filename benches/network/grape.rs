//! The Grape HTTP API of one of six DHT nodes, on work that does not repeat.

use super::{
    figures::{Figures, cpu_of},
    http::Connection,
    load::{Until, Work, drive},
    offers::per_request_us,
    processes::Network,
};
use anyhow::{Context, Result, ensure};
use std::{
    fmt::Write,
    rc::Rc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Values and names that reads go through. Below what a stock grape holds, many enough that no single answer is remembered.
const STORED: usize = 200;
/// The port that every name is announced with.
const PORT: &str = "1337";
const CONNECTIONS: [usize; 2] = [1, 32];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Get,
    Lookup,
    Put,
    Announce,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Lookup => "lookup",
            Self::Put => "put",
            Self::Announce => "announce",
        }
    }
}

struct Calls {
    operation: Operation,
    path: String,
    /// Different in each load, so that no value and no name is stored twice.
    salt: u128,
    n: usize,
    hashes: Rc<Vec<String>>,
    /// Of the names that are stored.
    names: u128,
}

impl Work for Calls {
    fn next(&mut self, body: &mut String) -> &str {
        self.n += 1;
        let (n, salt, stored) = (self.n, self.salt, self.n % STORED);
        // Writing to a string cannot fail.
        let _ = match self.operation {
            Operation::Get => write!(body, r#"{{"rid":"1","data":"{}"}}"#, self.hashes[stored]),
            Operation::Lookup => write!(body, r#"{{"rid":"1","data":"bench:{}:{stored}"}}"#, self.names),
            Operation::Put => write!(body, r#"{{"rid":"1","data":{{"v":"value-{salt}-{n}"}}}}"#),
            Operation::Announce => write!(body, r#"{{"rid":"1","data":["name:{salt}:{n}",{PORT}]}}"#),
        };
        &self.path
    }

    fn is_right(&mut self, status: u16, body: &str) -> bool {
        status == 200
            && match self.operation {
                Operation::Get => body.contains("\"v\":\"bench-"),
                Operation::Lookup => body.contains(PORT),
                Operation::Put => is_hash(body),
                // On how many nodes.
                Operation::Announce => body.parse::<u32>().is_ok_and(|nodes| nodes > 0),
            }
    }
}

/// A target as JSON text.
fn is_hash(body: &str) -> bool {
    body.len() == 42 && body[1..41].bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn salt() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_nanos())
}

/// Reads first: the writes push stored values out of a stock grape.
pub(super) fn operations(network: &Network, time: Duration, figures: &mut Figures) -> Result<()> {
    let names = salt();
    let hashes = Rc::new(store(network, names)?);
    for operation in [Operation::Get, Operation::Lookup, Operation::Put, Operation::Announce] {
        for connections in CONNECTIONS {
            let path = format!("/{}", operation.name());
            let calls = Calls { operation, path, salt: salt(), n: 0, hashes: Rc::clone(&hashes), names };
            let cpu = cpu_of(&network.processes)?;
            let (_, mut load) = drive(network.grapes[1], connections, Until::Elapsed(time), calls)?;
            let cpu = cpu_of(&network.processes)?.saturating_sub(cpu);
            for sample in &load.samples {
                eprintln!("  wrong {}: {sample}", operation.name());
            }
            let name = format!("grape_{}_{connections}", operation.name());
            figures.insert(format!("{name}_per_s"), load.per_second());
            figures.insert(format!("{name}_errors"), load.wrong as f64);
            figures.insert(format!("{name}_servers_cpu_us"), per_request_us(cpu, &load));
            figures.insert(format!("{name}_client_cpu_us"), per_request_us(load.client_cpu, &load));
            load.latencies.report(&name, figures);
        }
    }
    Ok(())
}

/// Stores what the reads go through, by the grape that is asked; gives the values' hashes.
fn store(network: &Network, names: u128) -> Result<Vec<String>> {
    let mut grape = Connection::open(network.grapes[1])?;
    let mut hashes = Vec::new();
    for n in 0..STORED {
        let value = format!(r#"{{"rid":"1","data":{{"v":"bench-{names}-{n}"}}}}"#);
        let answer = grape.ask("POST", "/put", &value)?;
        ensure!(
            answer.status == 200 && is_hash(&answer.body),
            "a put was answered {}: {}",
            answer.status,
            answer.body
        );
        hashes.push(answer.body.trim_matches('"').to_owned());
        let name = format!(r#"{{"rid":"1","data":["bench:{names}:{n}",{PORT}]}}"#);
        let answer = grape.ask("POST", "/announce", &name)?;
        answer
            .body
            .parse::<u32>()
            .with_context(|| format!("an announcement was answered {}", answer.body))?;
    }
    Ok(hashes)
}
