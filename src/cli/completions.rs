//! `vintner completions` and `vintner man`: both are written from the very definition that reads the arguments, so they cannot
//! say anything else.

use super::{Cli, Exit, output, path::UserPath};
use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::Shell;
use std::{fs, path::Path};

/// Print a completion script for a shell
///
/// It completes commands, flags and their values. Load it where the shell looks for such scripts.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "bash: vintner completions bash > ~/.local/share/bash-completion/completions/vintner\n\
        zsh:  vintner completions zsh > \"${fpath[1]}/_vintner\"\n\
        fish: vintner completions fish > ~/.config/fish/completions/vintner.fish"
)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    shell: Shell,
}

/// Print the manual page, or write all pages into a directory
///
/// The pages are those of each command: vintner.1, vintner-offers.1, vintner-offers-list.1 and so on.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example: vintner man ~/.local/share/man/man1 && man vintner-offers")]
pub(crate) struct ManArgs {
    /// Where to write the pages; made if it is missing [default: print the main page]
    #[arg(value_name = "DIR")]
    dir: Option<UserPath>,
}

/// Prints the script.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<Exit> {
    output::print(&script(args.shell))?;
    Ok(Exit::Done)
}

/// Prints the main page, or writes them all.
pub(crate) fn man(args: &ManArgs) -> Result<Exit> {
    match &args.dir {
        None => output::print(&main_page()?)?,
        Some(dir) => output::print(&format!("{} pages written to {}\n", write_pages(dir)?, dir.display()))?,
    }
    Ok(Exit::Done)
}

fn script(shell: Shell) -> String {
    let (mut command, mut script) = (Cli::command(), Vec::new());
    clap_complete::generate(shell, &mut command, "vintner", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

fn main_page() -> Result<String> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page).context("the page cannot be written")?;
    Ok(String::from_utf8_lossy(&page).into_owned())
}

/// Writes a page for every command; returns how many.
fn write_pages(dir: &Path) -> Result<usize> {
    let failed =
        || format!("the pages cannot be written to {}; choose a directory of your own", dir.display());
    fs::create_dir_all(dir).with_context(failed)?;
    // The help that clap adds to every command by itself says nothing that the pages do not.
    let command = Cli::command().disable_help_subcommand(true);
    clap_mangen::generate_to(command, dir).with_context(failed)?;
    let pages = fs::read_dir(dir).with_context(failed)?.flatten();
    Ok(pages.filter(|page| page.file_name().to_string_lossy().starts_with("vintner")).count())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    /// Every command that is shown, as the words one types: `offers list`.
    fn commands(under: &clap::Command, path: &str, found: &mut Vec<String>) {
        for command in under.get_subcommands().filter(|command| !command.is_hide_set()) {
            let path = format!("{path} {}", command.get_name()).trim_start().to_owned();
            found.push(path.clone());
            commands(command, &path, found);
        }
    }

    fn all() -> Vec<String> {
        let mut found = Vec::new();
        commands(&Cli::command(), "", &mut found);
        assert!(found.contains(&"offers list".into()) && found.len() > 15, "{found:?}");
        found
    }

    #[test]
    fn every_shell_is_offered_every_command() {
        for shell in Shell::value_variants() {
            let script = script(*shell);
            for path in all() {
                let name = path.rsplit(' ').next().unwrap();
                assert!(script.contains(name), "{shell} does not know {path}");
            }
        }
        // Bash names each level, so that a name that occurs elsewhere does not hide a gap.
        let bash = script(Shell::Bash);
        for path in all() {
            let case = format!("vintner__subcmd__{}", path.replace([' ', '-'], "__subcmd__"));
            assert!(bash.contains(&case), "bash does not know {path}");
        }
    }

    #[test]
    fn every_command_has_its_page() {
        let dir = tempfile::tempdir().unwrap();
        let pages = write_pages(&dir.path().join("man1")).unwrap();
        for path in all() {
            let page = dir.path().join("man1").join(format!("vintner-{}.1", path.replace(' ', "-")));
            let text = fs::read_to_string(&page).unwrap_or_else(|_| String::new());
            assert!(text.contains(".SH SYNOPSIS"), "{path} has no page");
            assert!(!text.contains("until-stdin-ends"), "what is hidden is not in {path}'s page");
        }
        assert_eq!(pages, all().len() + 1);
        assert!(main_page().unwrap().contains("vintner\\-offers"));
    }
}
