//! `vintner backup`: a copy of the store, made on the node's machine, while the node runs or not.

use super::{
    Exit,
    output::{self, facts},
    path::UserPath,
    settings::DataDirArgs,
};
use crate::store::{self, BackupError, DATABASE_FILE, keyfile};
use anyhow::{Context, Result, anyhow};
use clap::Args;
use serde_json::json;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Copy the store to a new file, while the node runs
///
/// The copy is complete as of one moment, checked row by row, synced, and readable by its owner only. It holds offers, bids and
/// trades. It does not hold the master key: copy DATA_DIR/master.key once, and keep it apart. To restore, put the copy as
/// vintner.db and the key as master.key into an empty directory and start a node on it.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: vintner backup --data-dir /var/lib/vintner /backup/vintner-$(date +%F).db")]
pub(crate) struct BackupArgs {
    /// The file to make; an existing one is never overwritten
    file: UserPath,

    #[command(flatten)]
    data_dir: DataDirArgs,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Says what there is instead: `make start-all`, `devnet` and `--join` have directories of their own.
fn no_store(place: &Path) -> anyhow::Error {
    let found = stores(Path::new(".vintner"), 3);
    if found.is_empty() {
        return BackupError::NoStore(place.to_owned()).into();
    }
    anyhow!(
        "{} is not there, but stores are in {}; name one of these directories with --data-dir",
        place.display(),
        found.join(", ")
    )
}

/// The directories at and below `dir` that hold a store, so many levels deep, in order.
fn stores(dir: &Path, levels: u32) -> Vec<String> {
    let mut below: Vec<PathBuf> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    below.sort();
    let own = dir.join(DATABASE_FILE).exists().then(|| dir.display().to_string());
    let deeper = below.iter().filter(|_| levels > 0).flat_map(|dir| stores(dir, levels - 1));
    own.into_iter().chain(deeper).collect()
}

/// Copies, and says what was copied and what was not.
pub(crate) async fn run(args: BackupArgs) -> Result<Exit> {
    let (dir, file) = (args.data_dir.find()?, args.file.into_path());
    let (from, to) = (dir.clone(), file.clone());
    let copied = tokio::task::spawn_blocking(move || store::backup(&from, &to)).await;
    let copied = match copied.context("the copy was interrupted; try again")? {
        Err(BackupError::NoStore(place)) => return Err(no_store(&place)),
        copied => copied?,
    };
    let key = dir.join(keyfile::KEY_FILE);
    if args.json {
        output::print_json(&json!({
            "file": file, "bytes": copied.bytes, "facts": copied.facts,
            "client_id": copied.client_id, "network": copied.network, "key_file": key,
        }))?;
        return Ok(Exit::Done);
    }
    let checked = match copied.facts {
        Some(facts) => format!("{facts} facts, each read back"),
        None => "its pages, as of an older version".to_owned(),
    };
    output::print(&facts(&[
        ("backup", Some(file.display().to_string())),
        ("bytes", Some(copied.bytes.to_string())),
        ("checked", Some(checked)),
        ("node", Some(copied.client_id)),
        ("network", Some(copied.network)),
        ("not in it", Some(format!("the key: keep a copy of {} apart, it never changes", key.display()))),
    ]))?;
    Ok(Exit::Done)
}
