//! Logs: on standard error, for people or for machines, as much as `VINTNER_LOG` asks for.
//!
//! What strangers wrote may stand in any field of any line, so it is the finished line that is made harmless, whoever logged it.

use crate::shown::{harmless, harmless_json};
use serde::{Deserialize, Serialize};
use std::{
    borrow::Cow,
    io::{self, IsTerminal, Write, stderr},
};
use tracing_subscriber::{EnvFilter, fmt::MakeWriter};

/// How logs are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// One line for people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `VINTNER_LOG` is a filter such as `debug` or `vintner::dht=trace,info`.
pub(crate) fn start(format: LogFormat) {
    let filter = EnvFilter::builder()
        .with_env_var("VINTNER_LOG")
        .with_default_directive(tracing::level_filters::LevelFilter::INFO.into())
        .from_env_lossy();
    let to = Lines { format, out: stderr };
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(to);
    match format {
        LogFormat::Human => logs.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().init(),
    }
}

/// Where finished lines go.
struct Lines<F> {
    format: LogFormat,
    out: F,
}

impl<'a, W: Write + 'a, F: Fn() -> W + 'a> MakeWriter<'a> for Lines<F> {
    type Writer = Line<W>;
    fn make_writer(&'a self) -> Line<W> {
        Line { format: self.format, out: (self.out)() }
    }
}

/// One line: the subscriber writes it at once.
struct Line<W> {
    format: LogFormat,
    out: W,
}

impl<W: Write> Write for Line<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(line);
        let shown = match self.format {
            LogFormat::Human => human(&text),
            LogFormat::Json => harmless_json(&text),
        };
        self.out.write_all(shown.as_bytes())?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A line for people: all of it on one line, and nothing that a terminal obeys but the subscriber's own colours. (The subscriber
/// itself writes down the escape characters of what it is given to log.)
fn human(line: &str) -> Cow<'_, str> {
    let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
    if !text.contains(COLOUR) {
        let shown = harmless(text);
        return if shown == text { Cow::Borrowed(line) } else { Cow::Owned(shown.into_owned() + end) };
    }
    let mut parts = text.split(COLOUR);
    let mut shown = harmless(parts.next().unwrap_or_default()).into_owned();
    for part in parts {
        let digits = part.find(|c: char| !c.is_ascii_digit() && c != ';').unwrap_or(part.len());
        let (number, rest) = part.split_at(digits);
        match rest.strip_prefix('m') {
            Some(rest) => shown += &[COLOUR, number, "m", &harmless(rest)].concat(),
            None => shown += &harmless(&format!("{COLOUR}{part}")),
        }
    }
    Cow::Owned(shown + end)
}

/// How the subscriber begins and ends a colour: this, a number, `m`.
const COLOUR: &str = "\u{1b}[";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shown::payloads::{PAYLOADS, assert_harmless};
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of text in a message and in fields, shown in each way that fields are shown.
    fn logged(format: LogFormat, colours: bool, text: &str) -> String {
        let (kept, error) = (Kept::default(), io::Error::other(text.to_owned()));
        let out = kept.clone();
        let logs = tracing_subscriber::fmt().with_writer(Lines { format, out: move || out.clone() });
        let log =
            || tracing::info!(detail = text, shown = %text, debug = ?text, %error, "somebody says {text}");
        match format {
            LogFormat::Human => tracing::subscriber::with_default(logs.with_ansi(colours).finish(), log),
            LogFormat::Json => tracing::subscriber::with_default(logs.json().finish(), log),
        }
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn what_strangers_write_stays_on_its_line_in_every_format() {
        for payload in PAYLOADS {
            for colours in [false, true] {
                let line = logged(LogFormat::Human, colours, payload);
                assert_eq!(line.matches('\n').count(), 1, "{line:?}");
                let mut plain = line.trim_end().to_owned();
                for colour in ["0", "1", "2", "3", "31", "32", "33", "34", "35"] {
                    plain = plain.replace(&format!("{COLOUR}{colour}m"), "");
                }
                assert_harmless(&plain);
            }
            let line = logged(LogFormat::Json, false, payload);
            assert_harmless(line.trim_end_matches('\n'));
            let read: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(read["fields"]["detail"], *payload, "machines read what was written");
        }
    }

    #[test]
    fn a_plain_line_stays_as_it_is() {
        let line = "2026-11-21T12:00:00Z  INFO vintner: \u{1b}[2mnode started\u{1b}[0m\n";
        assert_eq!(human(line), line);
    }
}
