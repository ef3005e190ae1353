//! How the node that a command asked is asked again: advice that names a command repeats what the command needs, so that it can
//! be typed as it stands.

use super::client::{API_DEFAULT, ClientArgs};
use std::net::SocketAddr;

/// The commands that ask a running node, as the words after `vintner`.
const ASKING: [&str; 5] = ["offers", "bids", "trades", "status", "recover"];

/// The arguments that lead to a node; empty where the defaults do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reach(String);

impl Reach {
    /// What `args` say beside the defaults. A token from the environment is there for the next command too, and is not printed.
    pub(crate) fn of(args: &ClientArgs) -> Self {
        let token = args
            .token
            .as_deref()
            .filter(|token| std::env::var_os("VINTNER_TOKEN").is_none_or(|set| set.to_str() != Some(token)));
        let file = args.token_file.as_ref().map(|file| file.display().to_string());
        Self::with(Some(args.api.as_str()).filter(|api| *api != API_DEFAULT), token, file.as_deref())
    }

    /// To the node whose API listens at `api`, and reads its token from this file.
    pub(crate) fn to(api: SocketAddr, token_file: Option<&str>) -> Self {
        let url = format!("http://{api}");
        Self::with(Some(url.as_str()).filter(|url| *url != API_DEFAULT), None, token_file)
    }

    fn with(api: Option<&str>, token: Option<&str>, token_file: Option<&str>) -> Self {
        let given = [("--api", api), ("--token", token), ("--token-file", token_file)];
        let given = given.into_iter().filter_map(|(flag, value)| Some(format!(" {flag} {}", quoted(value?))));
        Self(given.collect())
    }

    /// The command, with all that leads to the node.
    pub(crate) fn command(&self, command: &str) -> String {
        format!("{command}{}", self.0)
    }

    /// `text` with its commands (between backticks) as they have to be typed.
    pub(crate) fn repeat(&self, text: &str) -> String {
        let parts = text.split('`').enumerate();
        let told =
            parts.map(|(n, part)| if n % 2 == 1 && asks(part) { self.command(part) } else { part.into() });
        told.collect::<Vec<_>>().join("`")
    }
}

/// Whether this is a command that asks a node, and does not say which.
fn asks(command: &str) -> bool {
    let mut words = command.split_whitespace();
    let asks = words.next() == Some("vintner")
        && match words.next() {
            // The command itself runs a node; what stands below it asks one.
            Some("node") => words.next() == Some("confirm-alone"),
            word => word.is_some_and(|word| ASKING.contains(&word)),
        };
    asks && !words.any(|word| word == "--api")
}

/// As a shell reads it back.
pub(crate) fn quoted(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@%+=,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn commands_in_advice_lead_to_the_node_that_was_asked() {
        let reach = Reach::with(Some("http://127.0.0.1:4001"), None, Some("my token"));
        assert_eq!(
            reach.repeat("look at `vintner bids show 1`; `vintner doctor` and `--help` help"),
            "look at `vintner bids show 1 --api http://127.0.0.1:4001 --token-file 'my token'`; \
             `vintner doctor` and `--help` help"
        );
        assert_eq!(reach.repeat("`vintner status --api x`"), "`vintner status --api x`");
        assert_eq!(
            Reach::with(Some("http://127.0.0.1:4001"), None, None)
                .repeat("`vintner node confirm-alone`, `vintner node`"),
            "`vintner node confirm-alone --api http://127.0.0.1:4001`, `vintner node`"
        );
        let text = "run `vintner recover`";
        assert_eq!(Reach::default().repeat(text), text);
        assert_eq!(
            Reach::with(None, Some("it's"), None).repeat(text),
            "run `vintner recover --token 'it'\\''s'`"
        );
        assert_eq!(Reach::to("127.0.0.1:4000".parse().unwrap(), None), Reach::default());
    }

    #[test]
    fn every_command_that_asks_a_node_is_known() {
        let cli = super::super::Cli::command();
        let asking = cli.get_subcommands().filter(|command| {
            command.get_arguments().any(|arg| arg.get_env() == Some("VINTNER_URL".as_ref()))
        });
        assert_eq!(asking.map(clap::Command::get_name).collect::<Vec<_>>(), ASKING);
    }
}
