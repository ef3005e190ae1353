//! The secrets that are not in the database: the master key and the API's token, each a file of one line, mode 0600.
//!
//! Both are made on first start from the operating system's random source, are on the disk before they are used, and are never
//! overwritten. A file that others can read is refused: its secret may be known already, and only its owner can judge that.

use super::{
    DATABASE_FILE, StoreError, error,
    lock::{DirLock, sync_dir},
};
use crate::identity::{MasterKey, decode_hex, encode_hex};
use data_encoding::BASE64URL_NOPAD;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The master key's name in the data directory.
pub const KEY_FILE: &str = "master.key";
/// Stands beside a key that has made no store yet.
const UNUSED_FILE: &str = "master.key.unused";
/// The API token's usual name in the data directory.
pub const TOKEN_FILE: &str = "api-token";
/// The shortest token that is accepted: 128 bits, were it random hex. A made one has 43 digits.
pub const TOKEN_BYTES_MIN: usize = 32;
/// The longest token: it is sent with every request.
pub const TOKEN_BYTES_MAX: usize = 256;
/// No secret file is longer; the rest of a wrong one need not be read.
const FILE_BYTES_MAX: u64 = TOKEN_BYTES_MAX as u64 + 2;

/// Why a secret is not used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// Others may have read it.
    #[error(
        "{path} can be read by others than its owner (mode {mode:03o}); if nobody did, run: chmod 600 {path}"
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Not the text that it must be.
    #[error("{path} does not hold {expected}; restore it from a backup, it is never overwritten")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What belongs there.
        expected: &'static str,
    },
    /// There is a database, but not the key that it was made with.
    #[error(
        "{key} is missing, but {database} is there: a new key would give up every offer and trade in it; \
         restore the key file from a backup, or choose another data directory"
    )]
    KeyMissing {
        /// Where the key should be.
        key: PathBuf,
        /// The database that needs it.
        database: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot {doing} {path}: {source}{}", error::advice(source))]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes for {path}: {reason}")]
    NoRandomness {
        /// The file that was to be made.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    Directory(#[from] StoreError),
}

impl KeyFileError {
    /// Whether starting again as it is will meet the same: only a person can mend it.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Exposed { .. } | Self::Malformed { .. } | Self::KeyMissing { .. } => true,
            Self::Io { source, .. } => error::io_needs_a_person(source),
            Self::NoRandomness { .. } => false,
            Self::Directory(error) => error.needs_a_person(),
        }
    }
}

/// The master key of the data directory `dir`: call it before [`super::Store::open`], which needs the client id. Makes directory
/// and key on first start; refuses to make a key for a database that has lost its own.
pub fn for_data_dir(dir: &Path) -> Result<MasterKey, KeyFileError> {
    // Held while looking and making, so that two first starts at once do not meet half way.
    let _lock = DirLock::take(dir)?;
    let (key, database) = (dir.join(KEY_FILE), dir.join(DATABASE_FILE));
    if database.exists() && !key.exists() {
        return Err(KeyFileError::KeyMissing { key, database });
    }
    if !key.exists() {
        // Before the key, so that no crash leaves a key that looks as if it had a store once.
        let unused = dir.join(UNUSED_FILE);
        let io = |source| KeyFileError::Io { doing: "make", path: unused.clone(), source };
        File::create(&unused).and_then(|_| sync_dir(dir)).map_err(io)?;
    }
    load_or_create(&key)
}

/// Whether the key in `dir` has no store yet: it was made a moment ago, or a first start was killed before it made one.
#[must_use]
pub fn is_unused(dir: &Path) -> bool {
    dir.join(UNUSED_FILE).exists()
}

/// Notes that the key has a store. From now on a missing store is a lost one.
pub fn is_used_now(dir: &Path) -> Result<(), KeyFileError> {
    let path = dir.join(UNUSED_FILE);
    match fs::remove_file(&path).and_then(|()| sync_dir(dir)) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(()),
        done => done.map_err(|source| KeyFileError::Io { doing: "remove", path, source }),
    }
}

/// The master key in the file at `path`, 64 hex digits and a newline; makes one if there is no such file.
pub fn load_or_create(path: &Path) -> Result<MasterKey, KeyFileError> {
    of_text(path, &secret_line(path, |bytes| encode_hex(bytes))?)
}

fn of_text(path: &Path, text: &str) -> Result<MasterKey, KeyFileError> {
    let expected = "a master key of 64 hex digits";
    let bytes = decode_hex(text).ok_or(KeyFileError::Malformed { path: path.to_owned(), expected })?;
    Ok(MasterKey::from_bytes(bytes))
}

/// The master key in the file at `path`, if there is such a file; makes none.
pub fn load(path: &Path) -> Result<Option<MasterKey>, KeyFileError> {
    match File::open(path) {
        Ok(file) => of_text(path, &read(path, &file)?).map(Some),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(KeyFileError::Io { doing: "open", path: path.to_owned(), source }),
    }
}

/// The API's bearer token in the file at `path`; makes one of 32 random bytes in base64url if there is no such file. An owner
/// may put any other line of [`TOKEN_BYTES_MIN`] to [`TOKEN_BYTES_MAX`] visible ASCII characters there.
pub fn load_or_create_token(path: &Path) -> Result<Zeroizing<String>, KeyFileError> {
    let token = secret_line(path, |bytes| BASE64URL_NOPAD.encode(bytes))?;
    let fits = (TOKEN_BYTES_MIN..=TOKEN_BYTES_MAX).contains(&token.len())
        && token.bytes().all(|b| b.is_ascii_graphic());
    let expected = "one line of 32 to 256 visible ASCII characters";
    if fits { Ok(token) } else { Err(KeyFileError::Malformed { path: path.to_owned(), expected }) }
}

/// The line in the file, without its end.
fn secret_line(path: &Path, encode: fn(&[u8; 32]) -> String) -> Result<Zeroizing<String>, KeyFileError> {
    match File::open(path) {
        Ok(file) => read(path, &file),
        Err(e) if e.kind() == ErrorKind::NotFound => create(path, encode),
        Err(source) => Err(KeyFileError::Io { doing: "open", path: path.to_owned(), source }),
    }
}

fn read(path: &Path, file: &File) -> Result<Zeroizing<String>, KeyFileError> {
    let io = |source| KeyFileError::Io { doing: "read", path: path.to_owned(), source };
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = Zeroizing::new(String::new());
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(io)?;
    // An editor may have written the end of the line in another way, or left it out.
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(Zeroizing::new(line.strip_suffix('\r').unwrap_or(line).to_owned()))
}

/// Makes the file beside its place and links it there when it is complete and on the disk: a crash leaves none or a whole one,
/// and one that appeared in the meantime is not overwritten.
fn create(path: &Path, encode: fn(&[u8; 32]) -> String) -> Result<Zeroizing<String>, KeyFileError> {
    let mut bytes = Zeroizing::new([0; 32]);
    getrandom::fill(&mut bytes[..])
        .map_err(|e| KeyFileError::NoRandomness { path: path.to_owned(), reason: e.to_string() })?;
    let line = Zeroizing::new(encode(&bytes));
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = PathBuf::from(new);
    let made = write_durably(&new, &line).and_then(|()| fs::hard_link(&new, path));
    // Whatever happened, the half-made name must not stay; what it held is linked or worthless.
    let _ = fs::remove_file(&new);
    let dir = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    made.and_then(|()| sync_dir(dir)).map_err(|source| KeyFileError::Io {
        doing: "make",
        path: path.to_owned(),
        source,
    })?;
    Ok(line)
}

fn write_durably(path: &Path, line: &str) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
        // Nothing there, or what a crash left half made.
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(line.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }
    fn put(path: &Path, text: &str, mode: u32) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_made_once_for_its_owner_only_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new/data");
        let key = for_data_dir(&dir).unwrap();
        let path = dir.join(KEY_FILE);
        assert_eq!((mode(&dir), mode(&path)), (0o700, 0o600));
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{}\n", encode_hex(key.as_bytes())));
        assert_eq!(for_data_dir(&dir).unwrap().as_bytes(), key.as_bytes());
        assert_ne!(load_or_create(&dir.join("other")).unwrap().as_bytes(), key.as_bytes());
        let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|f| f.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["lock", KEY_FILE, UNUSED_FILE, "other"], "nothing half made is left");
        assert!(is_unused(&dir));
        is_used_now(&dir).unwrap();
        is_used_now(&dir).unwrap();
        for_data_dir(&dir).unwrap();
        assert!(!is_unused(&dir), "a key is unused once");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_the_command_that_helps() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        for exposed in [0o640, 0o604, 0o666, 0o620] {
            put(&path, &format!("{}\n", "ab".repeat(32)), exposed);
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(&error, KeyFileError::Exposed { mode, .. } if *mode == exposed), "{error}");
            assert!(error.to_string().contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
        put(&path, &format!("{}\n", "ab".repeat(32)), 0o400);
        assert_eq!(load_or_create(&path).unwrap().as_bytes(), &[0xab; 32]);
    }

    #[test]
    fn a_malformed_key_is_refused_and_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(KEY_FILE);
        for text in
            ["", "\n", "abcd\n", &"zz".repeat(32), &"ab".repeat(33), &format!("#\n{}\n", "ab".repeat(32))]
        {
            put(&path, text, 0o600);
            let error = load_or_create(&path).unwrap_err();
            assert!(matches!(error, KeyFileError::Malformed { .. }), "{text:?}: {error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }

    #[test]
    fn what_a_crash_left_half_made_does_not_stand_in_the_way() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("master.key.new"), "abc", 0o644);
        let key = for_data_dir(dir.path()).unwrap();
        assert_eq!(for_data_dir(dir.path()).unwrap().as_bytes(), key.as_bytes());
    }

    #[test]
    fn a_database_without_its_key_is_refused_and_gets_no_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let key = for_data_dir(dir.path()).unwrap();
        drop(Store::open(dir.path(), &"test".parse().unwrap(), key.client_key().public()).unwrap());
        fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
        let error = for_data_dir(dir.path()).unwrap_err();
        assert!(matches!(error, KeyFileError::KeyMissing { .. }), "{error}");
        assert!(!dir.path().join(KEY_FILE).exists());
    }

    #[test]
    fn a_token_is_made_or_taken_as_its_owner_wrote_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(TOKEN_FILE);
        let token = load_or_create_token(&path).unwrap();
        assert_eq!((token.len(), mode(&path)), (43, 0o600));
        assert_eq!(load_or_create_token(&path).unwrap(), token);
        put(&path, "correct-horse-battery-staple-again\r\n", 0o600);
        assert_eq!(load_or_create_token(&path).unwrap().as_str(), "correct-horse-battery-staple-again");
        for text in ["", "short\n", "two lines of words in it\n", &"x".repeat(300)] {
            put(&path, text, 0o600);
            assert!(matches!(load_or_create_token(&path), Err(KeyFileError::Malformed { .. })), "{text:?}");
        }
        put(&path, &"x".repeat(43), 0o644);
        assert!(matches!(load_or_create_token(&path), Err(KeyFileError::Exposed { .. })));
    }
}
