//! What starts a stock grape starts ours: arguments as its command reads them, put into words that ours reads.
//!
//! The stock command (yargs) passes over flags that it does not know, `--no-` anything, and whatever is no flag; of a flag that is
//! given twice it makes a list, a flag of text that is given without a value is empty, and one of a number is as if it were not there.
//! An empty variable in a start script is enough for the last two. Here all of that starts a grape too, and each is told with what was
//! made of it, because it is more often a mistake than not.

use clap::{Arg, ArgAction, Command};
use std::{
    collections::HashMap,
    ffi::{OsStr, OsString},
    os::unix::ffi::OsStrExt,
};

/// The flags of the stock command that take a value. Others are ours: they are as strict as everywhere.
const STOCK: [&str; 11] = [
    "bind",
    "dht_port",
    "api_port",
    "bootstrap",
    "dht_max_values",
    "dht_peer_max_age",
    "dht_node_liveness",
    "check_max_payload_size",
    "_dht_concurrency",
    "_dht_max_tables",
    "_cache_max_age",
];
/// A list, to which a second flag adds.
const LIST: &str = "bootstrap";
/// The flag that may be empty.
const TEXT: &str = "bind";
/// How many letters may be wrong in a name that is taken for one of our flags and not for one of somebody else's.
const LETTERS_WRONG_MAX: usize = 2;

/// The arguments after `vintner grape`, and what was made of those that make no sense.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::cli) struct Heeded {
    pub(in crate::cli) arguments: Vec<OsString>,
    pub(in crate::cli) warnings: Vec<String>,
}

/// Reads arguments as the stock command does. `command` knows ours.
pub(in crate::cli) fn heed(command: &Command, arguments: impl Iterator<Item = OsString>) -> Heeded {
    let flags: HashMap<String, &Arg> =
        command.get_arguments().flat_map(|arg| names(arg).into_iter().map(move |name| (name, arg))).collect();
    let mut arguments = arguments.peekable();
    let mut warnings = Vec::new();
    // Each flag with what belongs to it, so that a later one can take its place.
    let mut heeded: Vec<(Option<String>, Vec<OsString>)> = Vec::new();
    while let Some(argument) = arguments.next() {
        let Some((name, inline)) = split(&argument) else {
            warnings.push(format!("`{}` belongs to no flag, and is passed over", argument.display()));
            continue;
        };
        let Some(arg) = flags.get(&name) else {
            match name.strip_prefix("--no-").and_then(|negated| flags.get(&format!("--{negated}"))) {
                Some(arg) if arg.get_id() == LIST => {
                    warnings.push(format!("{name} is taken for --bn '': this grape joins nobody"));
                    heeded.push((Some(LIST.to_owned()), vec!["--bn=".into()]));
                }
                // It says itself what is wrong, and what was meant: without its directory, say, a grape would forget everything.
                _ if is_nearly_ours(&name, &flags) => heeded.push((None, vec![argument])),
                _ => warnings.push(format!("{name} is no flag of this command, and is passed over")),
            }
            continue;
        };
        let id = arg.get_id().to_string();
        let is_stock = STOCK.contains(&&*id);
        let value = match inline {
            _ if !takes_value(arg) => None,
            Some(inline) => Some(inline),
            None => arguments.next_if(|next| !is_flag(next)),
        };
        let joined = |value: &OsString| {
            let mut joined = OsString::from(format!("{name}="));
            joined.push(value);
            joined
        };
        let words = match &value {
            _ if !takes_value(arg) => vec![argument],
            // An empty address is none given, to a stock grape too.
            Some(value) if id == TEXT && value.is_empty() => continue,
            Some(value) if !(is_stock && value.is_empty()) || id == LIST => vec![joined(value)],
            // Flags of ours say themselves what they miss, if anything.
            None if !is_stock => vec![argument],
            _ if id == LIST => {
                warnings.push(format!("{name} has no value: this grape joins nobody"));
                vec![OsString::from(format!("{name}="))]
            }
            _ => {
                warnings.push(format!("{name} has no value, and is passed over"));
                continue;
            }
        };
        let earlier = heeded.iter().position(|(earlier, _)| earlier.as_deref() == Some(&*id));
        if let Some(earlier) = earlier.filter(|_| is_stock && id != LIST) {
            warnings.push(format!("{name} is given more than once: the last one counts"));
            heeded.remove(earlier);
        }
        heeded.push((Some(id), words));
    }
    Heeded { arguments: heeded.into_iter().flat_map(|(_, words)| words).collect(), warnings }
}

/// Every way to write a flag.
fn names(arg: &Arg) -> Vec<String> {
    let long = arg.get_long_and_visible_aliases().unwrap_or_default();
    let hidden = arg.get_all_aliases().unwrap_or_default();
    let mut names: Vec<String> = long.into_iter().chain(hidden).map(|name| format!("--{name}")).collect();
    names.extend(arg.get_short().map(|short| format!("-{short}")));
    names
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// Whether this is one of our own flags but for a slip of the hand.
fn is_nearly_ours(name: &str, flags: &HashMap<String, &Arg>) -> bool {
    let ours = flags.iter().filter(|(_, arg)| !STOCK.contains(&arg.get_id().as_str()));
    let long = ours.map(|(ours, _)| ours).filter(|ours| ours.starts_with("--"));
    name.starts_with("--")
        && long.into_iter().any(|ours| {
            let wrong = strsim::damerau_levenshtein(name, ours);
            // Of a short name, two letters are half.
            wrong <= LETTERS_WRONG_MAX && wrong * 3 <= ours.len() - 2
        })
}

/// A flag and the value that is written with it, if it is a flag. A value may be any bytes, as a path may.
fn split(argument: &OsStr) -> Option<(String, Option<OsString>)> {
    let bytes = argument.as_bytes();
    let value = |bytes: &[u8]| Some(OsStr::from_bytes(bytes).to_owned());
    if bytes.starts_with(b"--") {
        let end = bytes.iter().position(|byte| *byte == b'=');
        let name = String::from_utf8(bytes[..end.unwrap_or(bytes.len())].to_vec()).ok()?;
        return Some((name, end.and_then(|end| value(&bytes[end + 1..]))));
    }
    let short = bytes.strip_prefix(b"-")?;
    let letter = *short.first().filter(|letter| !letter.is_ascii_digit() && **letter != b'.')?;
    if !letter.is_ascii() {
        return Some((argument.to_str()?.to_owned(), None));
    }
    let rest = &short[1..];
    let given = rest.strip_prefix(b"=").unwrap_or(rest);
    Some((format!("-{}", char::from(letter)), Some(given).filter(|_| !rest.is_empty()).and_then(value)))
}

fn is_flag(argument: &OsString) -> bool {
    split(argument).is_some()
}

/// A number as JavaScript reads it from a flag: with an exponent, a fraction (which is cut) or as hexadecimal; what is below 0 is 0.
pub(super) fn number(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let read = match hex {
        Some(digits) => u64::from_str_radix(digits, 16).ok().filter(|_| !digits.starts_with('+')),
        // A float beyond 64 bits becomes the largest integer, one below 0 becomes 0.
        None => text.parse().ok().or_else(|| {
            text.parse::<f64>().ok().filter(|number| number.is_finite()).map(|number| number as u64)
        }),
    };
    read.ok_or_else(|| "give a number, such as 20001".to_owned())
}

/// A port, written as any [`number`].
pub(super) fn port(text: &str) -> Result<u16, String> {
    let text = text.trim();
    let is_whole = text.parse::<f64>().is_ok_and(|number| number.fract() == 0.0 && number >= 0.0);
    let is_hex = text.starts_with("0x") || text.starts_with("0X");
    let number = number(text).ok().filter(|_| is_whole || is_hex);
    let port = number.and_then(|number| u16::try_from(number).ok());
    port.ok_or_else(|| "give a port from 0 to 65535".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Args;

    fn heeded(line: &[&str]) -> (Vec<String>, Vec<String>) {
        let command = crate::cli::grape::GrapeArgs::augment_args(Command::new("grape"));
        let Heeded { arguments, warnings } = heed(&command, line.iter().map(OsString::from));
        (arguments.into_iter().map(|argument| argument.into_string().unwrap()).collect(), warnings)
    }

    #[test]
    fn what_makes_sense_is_passed_on_and_nothing_is_said_of_it() {
        let line = [
            "-b",
            "127.0.0.1",
            "--dp=1",
            "--aph",
            "2",
            "--bn",
            "h:1,h:2",
            "--dc",
            "32",
            "--events",
            "--data-dir",
            "d",
            "--status",
            "--ipv6=false",
        ];
        let (arguments, warnings) = heeded(&line);
        let expected = [
            "-b=127.0.0.1",
            "--dp=1",
            "--aph=2",
            "--bn=h:1,h:2",
            "--dc=32",
            "--events",
            "--data-dir=d",
            "--status",
            "--ipv6=false",
        ];
        assert_eq!((arguments, warnings), (expected.map(str::to_owned).to_vec(), Vec::new()));
    }

    #[test]
    fn what_a_stock_grape_passes_over_is_passed_over_and_told() {
        for (line, arguments, said) in [
            (&["-b", ""][..], &[][..], ""),
            (&["-b=", "--dp", "1"], &["--dp=1"], ""),
            (&["--bn"], &["--bn="], "joins nobody"),
            (&["--bn", "--aph", "2"], &["--bn=", "--aph=2"], "joins nobody"),
            (&["--bn", ""], &["--bn="], ""),
            (&["--dpa", "--aph", "2"], &["--aph=2"], "--dpa has no value"),
            (&["--dpa", "", "--aph", "2"], &["--aph=2"], "--dpa has no value"),
            (&["--dp", "1", "--dp", "2"], &["--dp=2"], "--dp is given more than once"),
            (&["--dht_port", "1", "--dp=2"], &["--dp=2"], "--dp is given more than once"),
            (&["--bn", "a:1", "--bootstrap", "b:2"], &["--bn=a:1", "--bootstrap=b:2"], ""),
            (&["start", "--dp", "1", "more"], &["--dp=1"], "`more` belongs to no flag"),
            (&["--no-x", "--no-dc"], &[], "--no-dc is no flag"),
            (&["--no-bn"], &["--bn="], "joins nobody"),
            (&["--verbose", "3", "-v", "--x=y"], &[], "--x is no flag"),
            (&["--dnl", "-5"], &["--dnl=-5"], ""),
            (&["--", "--dp", "1"], &["--dp=1"], "-- is no flag"),
        ] {
            let (found, warnings) = heeded(line);
            assert_eq!(found, arguments, "{line:?}");
            let told = warnings.join("\n");
            assert!(if said.is_empty() { told.is_empty() } else { told.contains(said) }, "{line:?}: {told}");
        }
    }

    #[test]
    fn flags_of_ours_are_as_strict_as_everywhere() {
        let (arguments, warnings) = heeded(&["--data-dir", "--config", "f", "--config", "g"]);
        assert_eq!(arguments, ["--data-dir", "--config=f", "--config=g"]);
        assert!(warnings.is_empty());
    }

    #[test]
    fn a_flag_of_ours_that_is_misspelt_is_no_flag_of_somebody_else() {
        for line in [
            &["--data-dri", "d"][..],
            &["--data-dri=d"],
            &["--datadir", "d"],
            &["--allow-orign", "https://a.example"],
            &["--evnets"],
            &["--stats"],
        ] {
            let (arguments, _) = heeded(line);
            assert_eq!(arguments, line[..1], "{line:?} goes on, and is refused with what was meant");
            let command = crate::cli::grape::GrapeArgs::augment_args(Command::new("grape"));
            let refused = command.try_get_matches_from(["grape", line[0]]).unwrap_err().to_string();
            assert!(refused.contains("similar argument exists"), "{refused}");
        }
        // Those of somebody else are passed over as before.
        for line in [&["--ip", "4"][..], &["--date"], &["--event-loop"], &["--dht_ports", "1"]] {
            assert_eq!(heeded(line).0, [""; 0], "{line:?}");
        }
    }

    #[test]
    fn a_path_may_be_any_bytes() {
        let command = crate::cli::grape::GrapeArgs::augment_args(Command::new("grape"));
        let inline = OsStr::from_bytes(b"--data-dir=/x/\xff").to_owned();
        let apart = OsStr::from_bytes(b"/x/\xff").to_owned();
        for line in [vec![inline.clone()], vec!["--data-dir".into(), apart]] {
            let heeded = heed(&command, line.into_iter());
            assert_eq!(heeded, Heeded { arguments: vec![inline.clone()], warnings: Vec::new() });
        }
        let stray = heed(&command, [OsStr::from_bytes(b"\xff").to_owned()].into_iter());
        assert!(stray.arguments.is_empty() && stray.warnings[0].contains("belongs to no flag"));
    }

    #[test]
    fn numbers_are_read_as_javascript_does() {
        for (text, read) in [
            ("20001", 20_001),
            ("1e5", 100_000),
            ("20001.0", 20_001),
            ("0x4e21", 20_001),
            ("0X4E21", 20_001),
            ("1.9", 1),
            ("-5", 0),
            ("1e30", u64::MAX),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(number(text), Ok(read), "{text}");
        }
        for text in ["", "x", "0x", "0x+1", "1e999", "NaN", "inf", "12k"] {
            assert!(number(text).is_err(), "{text}");
        }
        for text in ["20001", "20001.0", "0x4e21", "2.0001e4"] {
            assert_eq!(port(text), Ok(20_001), "{text}");
        }
        for text in ["65536", "1e5", "-1", "1.5", "x", "", "0.5"] {
            assert!(port(text).is_err(), "{text}");
        }
        assert_eq!(port("0"), Ok(0));
    }
}
