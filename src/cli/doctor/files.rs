//! The data directory: can it be written, is there space, are the secrets secret, is the store ours.

use super::report::Report;
use crate::{
    cli::settings::{Effective, read_token},
    http::api::ApiToken,
    store::{Inspected, inspect, keyfile},
};
use rustix::fs::{Access, access, statvfs};
use std::path::Path;

/// Below this a node is about to refuse writes.
const SPACE_FAILED_BYTES: u64 = 64 << 20;
/// Below this its owner should hear of it: a busy day of trading and its log.
const SPACE_WARNING_BYTES: u64 = 1 << 30;

/// What the other checks need to know of the files.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// What is in the data directory, if it could be looked at.
    pub(super) inspected: Option<Inspected>,
    /// Whose it is, from the database or else from the key.
    pub(super) client_id: Option<String>,
    /// What the API asks for.
    pub(super) token: Option<String>,
}

/// Looks at them all.
pub(super) fn check(settings: &Effective, report: &mut Report) -> Files {
    let dir = &settings.data_dir;
    if !directory(dir, report) {
        return Files { token: token(settings, report), ..Files::default() };
    }
    space(dir, report);
    let key = key(dir, report);
    let inspected = store(settings, key.as_deref(), report);
    let database = inspected.as_ref().and_then(|inspected| inspected.database.as_ref());
    let client_id = database.map(|database| database.client_id.clone()).or(key);
    Files { inspected, client_id, token: token(settings, report) }
}

/// Whether there is one to look into.
fn directory(dir: &Path, report: &mut Report) -> bool {
    const NAME: &str = "data directory";
    let shown = dir.display();
    let choose = "make it writable for this user, or choose another --data-dir";
    if dir.is_dir() {
        // What is checked is this user's right: run it as the user that the node runs as.
        match access(dir, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
            Ok(()) => report.ok(NAME, format!("{shown} can be written")),
            Err(error) => report.failed(NAME, format!("{shown} cannot be written: {error}"), choose),
        }
        return true;
    }
    if dir.symlink_metadata().is_ok() {
        report.failed(NAME, format!("{shown} is no directory"), choose);
        return false;
    }
    let here = Path::new(".");
    let above = dir.ancestors().skip(1).find(|above| above.exists()).unwrap_or(here);
    match access(above, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => report.ok(NAME, format!("{shown} is not there yet; a node makes it when it starts")),
        Err(error) => report.failed(
            NAME,
            format!("{shown} is not there, and {} cannot be written: {error}", above.display()),
            choose,
        ),
    }
    false
}

fn space(dir: &Path, report: &mut Report) {
    const NAME: &str = "disk space";
    let next = "free some space; a node whose disk is full refuses writes until there is some";
    match statvfs(dir) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let detail = format!("{} MiB free", free >> 20);
            if free < SPACE_FAILED_BYTES {
                report.failed(NAME, detail, next);
            } else if free < SPACE_WARNING_BYTES {
                report.warning(NAME, detail, next);
            } else {
                report.ok(NAME, detail);
            }
        }
        Err(error) => report.warning(NAME, format!("not known: {error}"), next),
    }
}

/// The client id of the key, where it can be read.
fn key(dir: &Path, report: &mut Report) -> Option<String> {
    const NAME: &str = "key file";
    let path = dir.join(keyfile::KEY_FILE);
    match keyfile::load(&path) {
        Ok(Some(key)) => {
            let client_id = key.client_key().public().to_string();
            report.ok(NAME, format!("{} is for its owner only; client {client_id:.8}", path.display()));
            Some(client_id)
        }
        Ok(None) if dir.join(crate::store::DATABASE_FILE).exists() => {
            let detail = format!("{} is missing, but a store made with it is there", path.display());
            report.failed(
                NAME,
                detail,
                "restore the key file from its backup; a new key would give up every offer and trade",
            );
            None
        }
        Ok(None) => {
            report.ok(NAME, format!("{} is not there yet; a node makes it when it starts", path.display()));
            None
        }
        Err(error) => {
            report.error(NAME, error);
            None
        }
    }
}

fn store(settings: &Effective, key: Option<&str>, report: &mut Report) -> Option<Inspected> {
    const NAME: &str = "store";
    let inspected = match inspect(&settings.data_dir) {
        Ok(inspected) => inspected,
        Err(error) => {
            report.error(NAME, error);
            return None;
        }
    };
    let Some(database) = &inspected.database else {
        if key.is_some() && !keyfile::is_unused(&settings.data_dir) {
            let next = "restore it from a backup; if there is none, start the node once with --new-store, then run `vintner recover`";
            report.failed(NAME, "it is missing, but the key beside it has been used", next);
        } else {
            report.ok(NAME, "is not there yet; a node makes it when it starts");
        }
        return Some(inspected);
    };
    let of = format!("of client {:.8} on network {}", database.client_id, database.network);
    let (version, known) = (database.schema_version, database.schema_known);
    if key.is_some_and(|key| key != database.client_id) {
        let next = "put back the key file that was beside it, or the store that belongs to the key";
        report.failed(NAME, format!("it is {of}, but the key file is another client's"), next);
    } else if inspected.held_by.is_none() && database.network != settings.network.as_str() {
        let next =
            format!("start the node with --network {}, or choose another --data-dir", database.network);
        report.failed(NAME, format!("it is {of}, but the settings say network {}", settings.network), next);
    } else if version < known {
        let next = "make a backup before the node starts: there is no way back to the older version";
        report.warning(NAME, format!("{of}, schema {version}; the start will bring it to {known}"), next);
    } else {
        report.ok(NAME, format!("{of}, schema {version}"));
    }
    Some(inspected)
}

/// The token that the API asks for, where it asks for one.
fn token(settings: &Effective, report: &mut Report) -> Option<String> {
    const NAME: &str = "token file";
    let Some(path) = settings.token_path() else {
        report.ok(NAME, format!("none is needed: the API at {} asks for none", settings.api));
        return None;
    };
    if !path.exists() && path == settings.data_dir.join(keyfile::TOKEN_FILE) {
        report.ok(NAME, format!("{} is not there yet; a node makes it when it starts", path.display()));
        return None;
    }
    let token = read_token(&path).and_then(|token| {
        ApiToken::new(&token).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))?;
        Ok(token)
    });
    match token {
        Ok(token) => {
            report.ok(NAME, format!("{} is for its owner only", path.display()));
            Some(token)
        }
        Err(error) => {
            report.error(NAME, error);
            None
        }
    }
}
