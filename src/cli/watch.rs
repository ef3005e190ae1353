//! `vintner offers list --watch`: the list, kept up to date by asking again.
//!
//! On a terminal it is drawn in place. Elsewhere, and with `--json`, each change is one line: `+` came, `-` went, `~` changed.
//! What only moved out of a full page has not gone, and is not told. A node that is started again is waited for.

use super::{
    Exit,
    client::{Client, NoAnswer, Refused, duration},
    offers::{COLUMNS, row},
    output::{self, table},
    signals::Stop,
};
use crate::{
    http::types::{OfferView, Page},
    node::clock,
    shown::{harmless, harmless_json},
};
use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;
use std::{
    io::{self, IsTerminal, Write, stdout},
    time::{Duration, Instant},
};

/// The shortest interval: a list of a thousand offers costs a node milliseconds, and people do not read faster.
const INTERVAL_MIN: Duration = Duration::from_secs(1);
/// The longest one.
const INTERVAL_MAX: Duration = Duration::from_hours(1);
/// Asking takes at most this share of the time: a node that is slow to answer is asked less often.
const SHARE: u32 = 10;
/// How soon a reader that went away is noticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Lines of the screen that are not rows: what is shown, the headings, how many more there are.
const FRAME_LINES: usize = 4;
/// What a terminal that does not tell its size is taken for.
const SIZE_UNTOLD: (usize, usize) = (24, 80);

/// `--interval`.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    let interval = duration(text)?;
    if (INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
        Ok(interval)
    } else {
        Err("is not between 1s and 1h".into())
    }
}

/// Shows the offers that `query` finds until it is told to stop, or nobody reads any more.
pub(crate) async fn run(
    client: &Client,
    query: &[(&str, String)],
    interval: Duration,
    stop: Stop,
) -> Result<Exit> {
    let face = match (client.json, stdout().is_terminal()) {
        (true, _) => Face::Json,
        (false, true) => Face::Screen,
        (false, false) => Face::Lines,
    };
    let asked_to_stop = stop.asked();
    tokio::pin!(asked_to_stop);
    let mut shown: Option<Page<OfferView>> = None;
    let mut waiting = false;
    loop {
        let started = Instant::now();
        let answer = tokio::select! {
            answer = client.get::<Page<OfferView>>("/api/v1/offers", query) => answer,
            ended = &mut asked_to_stop => return ended.map(|()| Exit::Done),
        };
        match answer {
            Ok(page) => {
                if std::mem::take(&mut waiting) && face != Face::Screen {
                    output::tell("the node answers again");
                }
                if face.show(shown.as_ref(), &page, interval)?.is_break() {
                    return Ok(Exit::Done);
                }
                shown = Some(page);
            }
            Err(error) if shown.is_some() && passes(&error) => {
                if !std::mem::replace(&mut waiting, true) {
                    output::tell("the node does not answer; it is asked again until it does, Ctrl-C ends");
                }
            }
            Err(error) => return Err(error),
        }
        let pause = interval.max((started.elapsed() * SHARE).min(INTERVAL_MAX));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = reader_gone() => return Ok(Exit::Done),
            ended = &mut asked_to_stop => return ended.map(|()| Exit::Done),
        }
    }
}

/// Whether the node may answer when it is asked again.
fn passes(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(NoAnswer::Unreachable { .. } | NoAnswer::Silent { .. }))
        || error.downcast_ref::<Refused>().is_some_and(Refused::is_retryable)
}

/// Ends when nobody reads standard output any more. Writing would tell it too, but there may be nothing to write for hours.
async fn reader_gone() {
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let out = stdout();
        let mut polled = [PollFd::new(&out, PollFlags::empty())];
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        if poll(&mut polled, Some(&at_once)).is_ok_and(|ready| ready > 0) {
            return;
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Face {
    Screen,
    Lines,
    Json,
}

/// Whether to go on.
type Flow = std::ops::ControlFlow<()>;

impl Face {
    fn show(
        self,
        before: Option<&Page<OfferView>>,
        page: &Page<OfferView>,
        interval: Duration,
    ) -> Result<Flow> {
        let text = match self {
            Self::Screen => screen(page, interval, terminal_size(), before.is_none()),
            Self::Lines => lines(before, page, |change, offer| told(change, &row(offer))),
            Self::Json => lines(before, page, told_as_json),
        };
        match write(&text) {
            Ok(()) => Ok(Flow::Continue(())),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Flow::Break(())),
            Err(error) => Err(output::not_written(error)),
        }
    }
}

fn write(text: &str) -> io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Came,
    Changed,
    Went,
}

impl Change {
    fn sign(self) -> char {
        match self {
            Self::Came => '+',
            Self::Changed => '~',
            Self::Went => '-',
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Came => "came",
            Self::Changed => "changed",
            Self::Went => "went",
        }
    }
}

/// A change as people read it, with the offer's cells.
fn told(change: Change, row: &[String]) -> String {
    format!("{} {}", change.sign(), harmless(row.join("  ").trim_end()))
}

/// A change as programs read it: they get every character.
fn told_as_json(change: Change, offer: &OfferView) -> String {
    harmless_json(&json!({"change": change.name(), "offer": offer}).to_string()).into_owned()
}

fn lines(
    before: Option<&Page<OfferView>>,
    page: &Page<OfferView>,
    line: impl Fn(Change, &OfferView) -> String,
) -> String {
    let before = before.map_or(&[][..], |page| &page.items);
    let changes = changes(before, &page.items, page.next_cursor.is_some());
    changes.into_iter().map(|(change, offer)| line(change, offer) + "\n").collect()
}

/// What is different, the newest last. `full`: the page does not show all there is, so what stood at its end may only have been
/// pushed out by what came.
fn changes<'a>(before: &'a [OfferView], now: &'a [OfferView], full: bool) -> Vec<(Change, &'a OfferView)> {
    let find = |list: &'a [OfferView], id| list.iter().find(|offer| offer.id == id);
    let stays = before.iter().rposition(|offer| find(now, offer.id).is_some());
    let reaches = if full { stays.map_or(0, |at| at + 1) } else { before.len() };
    let went = before[..reaches].iter().filter(|offer| find(now, offer.id).is_none());
    let mut changes: Vec<_> = went.map(|offer| (Change::Went, offer)).collect();
    changes.extend(now.iter().rev().filter_map(|offer| match find(before, offer.id) {
        None => Some((Change::Came, offer)),
        Some(old) if (old.sequence, old.status, old.stale) != (offer.sequence, offer.status, offer.stale) => {
            Some((Change::Changed, offer))
        }
        Some(_) => None,
    }));
    changes
}

fn terminal_size() -> (usize, usize) {
    match rustix::termios::tcgetwinsize(stdout()) {
        Ok(size) if size.ws_row > 0 && size.ws_col > 0 => (size.ws_row.into(), size.ws_col.into()),
        _ => SIZE_UNTOLD,
    }
}

/// The whole screen, no line longer than it is wide: each line is written over the old one, and the rest cleared, so that
/// nothing flickers.
fn screen(
    page: &Page<OfferView>,
    interval: Duration,
    (height, width): (usize, usize),
    first: bool,
) -> String {
    const CLEAR: &str = "\x1b[2J";
    const HOME: &str = "\x1b[H";
    const TO_LINE_END: &str = "\x1b[K";
    const TO_SCREEN_END: &str = "\x1b[J";
    let rows: Vec<Vec<String>> = page.items.iter().map(row).collect();
    let fits = height.saturating_sub(FRAME_LINES).max(1);
    let all = if page.next_cursor.is_some() { "newest offers" } else { "offers" };
    let mut text = format!(
        "{} {all} at {}, asked every {} s, Ctrl-C ends\n",
        rows.len(),
        clock::now(),
        interval.as_secs()
    );
    if !rows.is_empty() {
        text += &table(&COLUMNS, &rows[..rows.len().min(fits)]);
    }
    if rows.len() > fits {
        let more = (rows.len() - fits).to_string();
        text += &["and ", &more, " more: enlarge the window, or ask for less (--help)\n"].concat();
    }
    let cut = |line: &str| line.chars().take(width).collect::<String>();
    let lines: String = text.lines().map(|line| cut(line) + TO_LINE_END + "\n").collect();
    format!("{}{HOME}{lines}{TO_SCREEN_END}", if first { CLEAR } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shown::payloads::{PAYLOADS, assert_harmless};

    fn offer(n: u8, sequence: u64, status: &str) -> OfferView {
        serde_json::from_value(json!({
            "id": format!("00000000-0000-7000-8000-0000000000{n:02}"), "hash": "ab".repeat(20),
            "client_id": "cd".repeat(32), "mine": false, "side": "sell", "btc_quantity": "1", "offer_price": "100",
            "currency": "USD", "sequence": sequence, "availability": status == "open", "status": status, "stale": false,
            "created_at": "2026-11-21T03:30:58.271Z", "dies_at": "2026-11-23T03:30:58.271Z",
            "acceptance": "first",
        }))
        .unwrap()
    }

    fn signs(before: &[OfferView], now: &[OfferView], full: bool) -> Vec<String> {
        let last = |offer: &OfferView| offer.id.to_string()[35..].to_owned();
        let changes = changes(before, now, full).into_iter();
        changes.map(|(change, offer)| format!("{}{}", change.sign(), last(offer))).collect()
    }

    #[test]
    fn each_change_is_told_once_and_the_newest_last() {
        let open = |n| offer(n, 1, "open");
        assert_eq!(signs(&[], &[open(3), open(2), open(1)], false), ["+1", "+2", "+3"]);
        assert_eq!(signs(&[open(2), open(1)], &[open(3), open(1)], false), ["-2", "+3"]);
        assert_eq!(signs(&[open(2), open(1)], &[offer(2, 2, "withdrawn"), open(1)], false), ["~2"]);
        assert!(signs(&[open(1)], &[open(1)], false).is_empty());
        assert_eq!(signs(&[open(1)], &[OfferView { stale: true, ..open(1) }], false), ["~1"]);
    }

    #[test]
    fn what_is_pushed_off_a_full_page_has_not_gone() {
        let open = |n| offer(n, 1, "open");
        assert_eq!(signs(&[open(3), open(2), open(1)], &[open(4), open(3), open(2)], true), ["+4"]);
        assert_eq!(signs(&[open(3), open(2), open(1)], &[open(4), open(3), open(1)], true), ["-2", "+4"]);
    }

    #[test]
    fn whatever_an_offer_says_a_change_is_one_line_and_a_terminal_obeys_none_of_it() {
        for payload in PAYLOADS {
            let line = told(Change::Came, &["1".into(), (*payload).into()]);
            assert_harmless(&line);
            assert_ne!(line, format!("+ 1  {payload}"));
            let said = OfferView { memo: Some((*payload).into()), ..offer(1, 1, "open") };
            let page = Page { items: vec![said], next_cursor: None };
            let text = lines(None, &page, |change, offer| told(change, &row(offer)));
            assert_eq!(text.matches('\n').count(), 1, "{text:?}");
            text.lines().for_each(assert_harmless);
            let text = lines(None, &page, told_as_json);
            let line = text.strip_suffix('\n').unwrap();
            assert_harmless(line);
            let change: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(change["offer"]["memo"], *payload);
            let drawn = screen(&page, INTERVAL_MIN, (10, 500), false);
            let drawn = drawn.replace("\x1b[H", "").replace("\x1b[K", "").replace("\x1b[J", "");
            assert_eq!(drawn.matches('\n').count(), 3, "{drawn:?}");
            drawn.lines().for_each(assert_harmless);
        }
    }

    #[test]
    fn an_offer_of_a_silent_maker_is_marked() {
        let silent = row(&OfferView { stale: true, ..offer(1, 1, "open") });
        assert!(silent.contains(&"open, stale".to_owned()), "{silent:?}");
    }

    #[test]
    fn the_screen_is_never_left() {
        let items: Vec<OfferView> = (0..50).map(|n| offer(n, 1, "open")).collect();
        let page = Page { items, next_cursor: None };
        let drawn = screen(&page, INTERVAL_MIN, (10, 40), false);
        assert!(drawn.lines().count() <= 10 && drawn.contains("and 44 more"), "{drawn}");
        let drawn = drawn.replace("\x1b[H", "").replace("\x1b[K", "").replace("\x1b[J", "");
        assert!(drawn.lines().all(|line| line.chars().count() <= 40), "{drawn}");
    }

    #[test]
    fn intervals_are_polite() {
        assert_eq!(interval("5s"), Ok(Duration::from_secs(5)));
        for bad in ["0s", "2h", "5", "x"] {
            assert!(interval(bad).is_err(), "{bad}");
        }
    }
}
