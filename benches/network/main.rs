//! `make bench`: our network and the same network on stock Grenache, measured in turns by one client in one run.
//!
//! `docs/benchmarks.md` says what each figure means. [`processes`] starts and ends the processes of either side. [`offers`], [`join`],
//! [`grape`], [`ring`] and [`datagrams`] measure them, [`library`] and [`hundred`] the DHT inside this one. [`load`] and [`http`] are the client for
//! HTTP, [`flood`] that for datagrams. [`report`] writes the table, [`machine`] says where.

mod datagrams;
mod figures;
mod flood;
mod grape;
mod http;
mod hundred;
mod join;
mod library;
mod load;
mod machine;
mod offers;
mod processes;
mod report;
mod ring;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use figures::Figures;
use processes::{Network, System};
use std::{
    fmt::Write,
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// What a shell expects of a program that an interrupt ended.
const INTERRUPTED: i32 = 130;

/// Measure vintner and stock Grenache side by side
#[derive(Parser)]
struct Options {
    /// Rounds; each measures both systems, and the medians count
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds of each load
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Offers that are made, seen and taken one at a time
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    runs: u32,
    /// Offers for the figure of memory
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    offers: u32,
    /// Offers that a late joiner has to fetch
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    join_offers: u32,
    /// Items for the figure of a grape's memory
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    items: u64,
    /// Seconds that grapes are idle, and that one of them is dead before it counts
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    ring_seconds: u64,
    /// One short round, to see that everything works; its figures say little
    #[arg(long)]
    quick: bool,
    /// Measure vintner alone, without ratios
    #[arg(long)]
    ours_only: bool,
    /// Compare with this other build of vintner instead of stock Grenache
    #[arg(long, value_name = "PROGRAM", conflicts_with = "ours_only")]
    against: Option<PathBuf>,
    /// Measure these parts only
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Where data and the figures of each round go: on a disk, not in memory [default: bench in Cargo's target directory]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One offer at a time
    Latency,
    /// Creates a second
    Creates,
    /// Resident memory
    Memory,
    /// A node that joins late; in the first round only
    Join,
    /// The Grape HTTP API
    Grape,
    /// Datagrams a second that one node answers on one core
    Datagrams,
    /// The DHT as a library, against the mainline crate
    Library,
    /// Six grapes: idle, and with a dead one among them; in the first round only
    Ring,
    /// Datagrams and bytes of a lookup among 100 nodes; in the first round only
    Hundred,
}

fn main() -> ExitCode {
    end_on_signals();
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            processes::clean_up();
            eprintln!("make bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the children first, whatever is being measured.
fn end_on_signals() {
    std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted,
                _ = terminate.recv() => Ok(()),
            }
        })?;
        eprintln!("make bench: stopped");
        processes::clean_up();
        std::process::exit(INTERRUPTED);
        #[allow(unreachable_code, reason = "says what the question marks above return")]
        std::io::Result::Ok(())
    });
}

fn run(mut options: Options) -> Result<()> {
    if options.quick {
        options = Options {
            rounds: 1,
            seconds: 1,
            runs: 20,
            offers: 1000,
            join_offers: 5000,
            items: 5000,
            ring_seconds: 5,
            ..options
        };
    }
    let dir = options.dir.clone().unwrap_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("../bench"));
    fs::create_dir_all(&dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let dir = fs::canonicalize(&dir)?;
    machine::check_disk(&dir)?;
    let mut systems = vec![System::ours(&dir)?];
    match &options.against {
        Some(program) => systems.push(System::other(program, &dir)?),
        None if options.ours_only => {}
        None => systems.push(System::Stock),
    }
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        // Whoever goes first may find a cooler machine, so they take turns.
        let mut order = systems.clone();
        if round % 2 == 0 {
            order.reverse();
        }
        for system in order {
            eprintln!("round {round} of {}: {}", options.rounds, system.name());
            let figures = measure(&system, &options, round, &dir)?;
            let path = dir.join(format!("round-{round}-{}.json", system.name()));
            fs::write(&path, serde_json::to_string_pretty(&figures)?)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            if system.is_ours() { ours.push(figures) } else { theirs.push(figures) }
        }
    }
    finish(&options, &dir, &ours, &theirs)
}

fn finish(options: &Options, dir: &Path, ours: &[Figures], theirs: &[Figures]) -> Result<()> {
    let other = if options.against.is_some() { "other build" } else { "stock" };
    let mut text = report::tables(ours, theirs, other);
    let wrong = if theirs.is_empty() {
        format!("{} of vintner", report::errors(ours))
    } else {
        format!("{} of vintner, {} of {other}", report::errors(ours), report::errors(theirs))
    };
    let is_right = report::errors(ours) + report::errors(theirs) == 0.0;
    writeln!(
        text,
        "\nMedians of {} rounds; each load {} s, {} offers one at a time, memory with {} offers and {} items,\nthe ring {} s idle and {} s with a dead node before it counts. Wrong or missing answers: {wrong}.\n",
        options.rounds,
        options.seconds,
        options.runs,
        options.offers,
        options.items,
        options.ring_seconds,
        options.ring_seconds
    )?;
    text.push_str(&machine::description(dir, options.against.is_none() && !options.ours_only).join("\n"));
    // Ours goes first, so this is what the machine did before anything was measured.
    let busy = ours.first().and_then(|figures| figures.get("load_average_before"));
    writeln!(text, "\n- Load average before the first round: {:.1}", busy.copied().unwrap_or_default())?;
    println!("\n{text}");
    let path = dir.join("table.md");
    fs::write(&path, &text).with_context(|| format!("{} cannot be written", path.display()))?;
    println!("This text and the figures of each round are in {}.", dir.display());
    ensure!(is_right, "answers that were wrong or missing: {wrong}; these figures do not count");
    Ok(())
}

/// One round of one system. Each part that stores much gets a network of its own, so that none pays for another.
fn measure(system: &System, options: &Options, round: u32, dir: &Path) -> Result<Figures> {
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let time = Duration::from_secs(options.seconds);
    let mut figures = Figures::new();
    figures.insert("load_average_before".into(), machine::load_average());
    figures.insert("sync_p50_ms".into(), machine::sync_ms(dir)?);
    if wanted(Part::Latency) || wanted(Part::Creates) {
        on_a_network(system, dir, |network| {
            if wanted(Part::Latency) {
                eprintln!("  one offer at a time");
                offers::latency(network, options.runs as usize, &mut figures)?;
            }
            if wanted(Part::Creates) {
                for connections in [1, 64] {
                    eprintln!("  creates, {connections} connections");
                    offers::creates(network, connections, time, &mut figures)?;
                }
            }
            Ok(())
        })?;
    }
    if wanted(Part::Memory) {
        eprintln!("  memory, idle and with {} offers", options.offers);
        on_a_network(system, dir, |network| {
            offers::memory(network, u64::from(options.offers), &mut figures)
        })?;
    }
    if wanted(Part::Join) && round == 1 && *system != System::Stock {
        eprintln!("  a late joiner, {} offers", options.join_offers);
        on_a_network(system, dir, |network| join::late(network, options.join_offers, &mut figures))?;
    }
    if wanted(Part::Grape) {
        eprintln!("  Grape HTTP");
        on_a_network(system, dir, |network| grape::operations(network, time, &mut figures))?;
    }
    let data = dir.join("data");
    // A stock grape was seen to give no write token under it, so that there is nothing to compare with.
    if wanted(Part::Datagrams) && *system != System::Stock {
        eprintln!("  datagrams, one node on one core");
        datagrams::answered(system, &data, time, &mut figures)?;
    }
    if wanted(Part::Library) {
        eprintln!("  the DHT as a library");
        library::calls(system, time, &mut figures)?;
    }
    // These take minutes, or give the same each time.
    if wanted(Part::Ring) && round == 1 {
        eprintln!("  six grapes, idle and one of them dead");
        ring::idle_and_dead(system, &data, Duration::from_secs(options.ring_seconds), time, &mut figures)?;
        if *system != System::Stock {
            eprintln!("  a grape with {} items", options.items);
            datagrams::memory(system, &data, options.items, &mut figures)?;
        }
    }
    if wanted(Part::Hundred) && round == 1 && system.is_ours() {
        eprintln!("  lookups among 100 nodes");
        hundred::lookups(&mut figures)?;
    }
    Ok(figures)
}

/// A new network for one measurement. One whose process ends meanwhile measures nothing, whatever the others answered.
fn on_a_network(system: &System, dir: &Path, measure: impl FnOnce(&Network) -> Result<()>) -> Result<()> {
    let network = Network::start(system, &dir.join("data"))?;
    let outcome = measure(&network);
    network.check()?;
    outcome
}
