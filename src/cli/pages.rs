//! Long lists: as many entries as a command asks for, page by page, and how to go on.

use super::{client::Client, reach::quoted};
use crate::http::types::Page;
use anyhow::Result;
use serde::de::DeserializeOwned;

/// Entries that one request asks for, at most: the API's own limit.
pub(crate) const PAGE_MAX: u32 = 1000;
/// Entries that one command shows, at most: about 100 MB of trades.
const SHOWN_MAX: i64 = 100_000;

/// Which part of a list is shown.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PageArgs {
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=SHOWN_MAX))]
    pub(crate) limit: u32,
    /// Where the page before said to go on
    #[arg(long, value_name = "CURSOR")]
    pub(crate) cursor: Option<String>,
}

/// A list as the API is asked for it: its path, and its filters.
pub(crate) struct List<'a> {
    pub(crate) path: &'a str,
    pub(crate) query: Vec<(&'static str, String)>,
}

impl List<'_> {
    /// Asks until so many entries are there, or no more. A page may be short, even empty, and still not be the last.
    pub(crate) async fn get<T: DeserializeOwned>(&self, client: &Client, args: &PageArgs) -> Result<Page<T>> {
        let mut page = Page { items: Vec::new(), next_cursor: args.cursor.clone() };
        loop {
            let missing = (args.limit as usize).saturating_sub(page.items.len()).min(PAGE_MAX as usize);
            let mut query = self.query.clone();
            query.push(("limit", missing.to_string()));
            query.extend(page.next_cursor.take().map(|cursor| ("cursor", cursor)));
            let more: Page<T> = client.get(self.path, &query).await?;
            page.items.extend(more.items);
            page.next_cursor = more.next_cursor;
            if page.next_cursor.is_none() || page.items.len() >= args.limit as usize {
                return Ok(page);
            }
        }
    }
}

/// What was asked for, as a shell is asked, where the flags have the names of the parameters.
pub(crate) fn as_flags(query: &[(&'static str, String)]) -> String {
    let flags = query.iter().map(|(name, value)| format!(" --{name} {}", quoted(value)));
    flags.collect::<Vec<_>>().concat()
}

/// The line under a list that has more.
pub(crate) fn more<T>(
    client: &Client,
    command: &str,
    flags: &str,
    args: &PageArgs,
    page: &Page<T>,
) -> String {
    let Some(cursor) = &page.next_cursor else { return String::new() };
    let limit = if args.limit == 100 { String::new() } else { format!(" --limit {}", args.limit) };
    let command = client.reach.command(&format!("{command}{flags}{limit} --cursor {cursor}"));
    format!("more: `{command}`\n")
}
