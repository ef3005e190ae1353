//! Paths as people write them: `~/vintner` is a directory of theirs, also where no shell has read it first.
//!
//! A shell replaces `~` at the start of a word and nowhere else: not in `--data-dir=~/vintner`, not in a file of settings, not in a
//! unit's `Environment=`. Taken as it stands it would name a directory `~` and begin a new identity there.

use clap::builder::{OsStringValueParser, TypedValueParser, ValueParser, ValueParserFactory};
use serde::{Deserialize, Deserializer, de::Error};
use std::{
    env,
    ffi::{OsStr, OsString},
    ops::Deref,
    path::{Path, PathBuf},
};

/// A path from a flag, the environment or a file, with `~` replaced by the home directory. Every path that a user gives is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UserPath(PathBuf);

impl UserPath {
    /// The path, for who keeps it.
    pub(crate) fn into_path(self) -> PathBuf {
        self.0
    }

    /// A path that is whole already.
    pub(crate) fn of(path: &Path) -> Self {
        Self(path.to_owned())
    }

    fn read(text: &OsStr, home: Option<OsString>) -> Result<Self, String> {
        let path = Path::new(text);
        let mut parts = path.components();
        let first = parts.next().map(|part| part.as_os_str().as_encoded_bytes());
        match first {
            Some(b"~") => {
                let home = home.filter(|home| Path::new(home).is_absolute());
                let home = home.ok_or("`~` stands for HOME, which is not set here; write the whole path")?;
                let rest = parts.as_path();
                let home = PathBuf::from(home);
                Ok(Self(if rest.as_os_str().is_empty() { home } else { home.join(rest) }))
            }
            Some([b'~', ..]) => {
                Err("`~` before a name is not understood; write the whole path, or ./~ for what is so named"
                    .into())
            }
            Some(_) => Ok(Self(path.to_owned())),
            None => Err("is empty; give a path".into()),
        }
    }
}

impl Deref for UserPath {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for UserPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl From<&str> for UserPath {
    /// A path of the program's own, which has no `~`.
    fn from(path: &str) -> Self {
        Self(path.into())
    }
}

impl ValueParserFactory for UserPath {
    type Parser = ValueParser;
    fn value_parser() -> ValueParser {
        OsStringValueParser::new().try_map(|text| Self::read(&text, env::var_os("HOME"))).into()
    }
}

impl<'de> Deserialize<'de> for UserPath {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        let path = Self::read(OsStr::new(&text), env::var_os("HOME"));
        path.map_err(|error| D::Error::custom(format!("the path {text:?}: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::any::TypeId;

    #[test]
    fn home_is_put_in_where_a_shell_would_and_nothing_else_is_touched() {
        let read = |text: &str, home: Option<&str>| {
            UserPath::read(OsStr::new(text), home.map(Into::into)).map(UserPath::into_path)
        };
        let is = |text: &str, path: &str| assert_eq!(read(text, Some("/home/a")), Ok(path.into()), "{text}");
        is("~", "/home/a");
        is("~/", "/home/a");
        is("~/vintner", "/home/a/vintner");
        is("./~/vintner", "./~/vintner");
        is("a/~", "a/~");
        is("/~x", "/~x");
        for (text, home) in [
            ("~/x", None),
            ("~/x", Some("")),
            ("~/x", Some("here")),
            ("~other/x", Some("/home/a")),
            ("", None),
        ] {
            assert!(read(text, home).is_err(), "{text} {home:?}");
        }
    }

    /// Every path among all flags, and with it every variable.
    #[test]
    fn no_flag_takes_a_path_that_is_read_otherwise() {
        fn look(command: &clap::Command, paths: &mut usize) {
            for arg in command.get_arguments() {
                let kind = arg.get_value_parser().type_id();
                assert!(kind != TypeId::of::<PathBuf>(), "{} of {}", arg.get_id(), command.get_name());
                *paths += usize::from(kind == TypeId::of::<UserPath>());
            }
            command.get_subcommands().for_each(|command| look(command, paths));
        }
        let mut paths = 0;
        look(&crate::cli::Cli::command(), &mut paths);
        assert!(paths > 10, "only {paths} were found");
    }
}
