//! The file of deliveries: `deliveries.db` in the state directory, an SQLite database that the program sqlite3 reads.
//!
//! Owns the file, the schema with its version, transactions, and what happens to a file that is damaged. Calls block on the disk. The table of
//! the spool is in `spool`.
//!
//! ```sql
//! -- since user_version = 1
//! CREATE TABLE delivery (digest BLOB PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
//! ```
//!
//! `digest` is the SHA-256 that a delivery is remembered by, of its scope and id or signed message; it tells nothing of the request.
//! `until` is the last second, since 1970, in which a copy is a duplicate.

use std::fs::{OpenOptions, rename};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookgate_core::auth::KeptDelivery;
use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params};
use rustls_pki_types::UnixTime;

use super::damage::{Damage, is_corrupt};
use super::reserve;
use super::spool::{self, ReadError, StoredRequest, Waiting};
use super::usage::Usages;

const NAME: &str = "deliveries.db";

/// The version of the schema, in `user_version`.
const VERSION: i64 = 2;

/// How long another process may hold the database, as the one before a restart does while it ends.
const BUSY_LIMIT: Duration = Duration::from_secs(2);

/// How long an expired delivery stays, in seconds: for so much the clock may be ahead for a while, and a copy is a duplicate when it is right again.
const GRACE_SECONDS: i64 = 86_400;

/// How often expired deliveries are removed, in seconds.
const CLEAN_UP_SECONDS: u64 = 60;

/// Most bytes that the log keeps after its pages are in the database. A burst of large bodies makes it longer.
const LOG_BYTES: i64 = 64 * 1024 * 1024;

/// Made at the first start, and by the first version that has the spool. The index serves the removal of what has expired.
const SCHEMA: &str =
    "CREATE TABLE IF NOT EXISTS delivery (digest BLOB PRIMARY KEY, until INTEGER NOT NULL) WITHOUT ROWID;
     CREATE INDEX IF NOT EXISTS delivery_until ON delivery (until);";

/// Why deliveries cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file cannot be opened or set up.
    #[error("cannot open {}: {source}; look at the disk and the owner of the file", .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
    /// The file was made by a newer hookgate.
    #[error("{} has version {version} of its schema, and this hookgate knows {VERSION}; install the newer hookgate again, or move the \
             file away, with the deliveries that were taken and those that wait in it", .path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: i64,
    },
    /// A damaged file cannot be put aside.
    #[error("cannot put the damaged file {} aside: {source}; move it away, with the deliveries that were taken and those that wait in it", .path.display())]
    Aside {
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// The file was found damaged, which was logged. Nothing is written to it any more.
    #[error("{} is damaged; a restart of hookgate puts it aside", .path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// A transaction failed. Nothing of it is kept.
    #[error("cannot write {}: {source}", .path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        source: rusqlite::Error,
    },
}

/// The open database.
#[derive(Debug)]
pub struct Database {
    connection: Connection,
    path: PathBuf,
    damage: Damage,
    next_clean_up: u64,
    /// How much of each route is stored.
    pub(super) usages: Usages,
}

/// A database, and what it told when it was opened.
#[derive(Debug)]
pub struct Opened {
    /// To write to.
    pub database: Database,
    /// The deliveries that have not expired.
    pub kept: Vec<KeptDelivery>,
    /// The deliveries that wait for their handlers. The dispatcher reads them again when it begins.
    pub waiting: Vec<Waiting>,
    /// How many dead letters there are.
    pub dead: usize,
    /// Reads requests.
    pub reader: Reader,
    /// Where a damaged file was put, if there was one. Its deliveries are forgotten.
    pub damaged: Option<PathBuf>,
}

impl Database {
    /// Opens the database of the state directory `directory`, or makes it. Puts a damaged one aside, under a name with the time.
    ///
    /// # Errors
    ///
    /// The file cannot be opened, read or set up, or was made by a newer hookgate.
    pub fn open(directory: &Path, now: UnixTime) -> Result<Opened, DatabaseError> {
        let path = directory.join(NAME);
        let mut opened = Self::open_whole(&path, now);
        let lacks_room = matches!(&opened, Err(DatabaseError::Open { source, .. }) if is_of_the_disk(source));
        if lacks_room && reserve::give_back(directory).is_ok_and(|given| given) {
            opened = Self::open_whole(&path, now);
            if opened.is_ok() {
                tracing::error!(
                    directory = %directory.display(),
                    "the disk of the state directory is full; deliveries that are stored are read, and none is stored until there is room"
                );
            }
        } else if let Err(error) = reserve::fill(directory) {
            tracing::warn!(%error, directory = %directory.display(), "the state directory has no room for its reserve; a start with a full disk may fail");
        }
        match opened {
            Err(DatabaseError::Open { source, .. }) if is_damage(&source) => {
                let aside = put_aside(&path, now)?;
                Ok(Opened { damaged: Some(aside), ..Self::open_whole(&path, now)? })
            }
            outcome => outcome,
        }
    }

    fn open_whole(path: &Path, now: UnixTime) -> Result<Opened, DatabaseError> {
        let failed = |source| DatabaseError::Open { path: path.to_owned(), source };
        // SQLite would make it readable by others, and gives its other files the mode of this one.
        let made = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
        made.map_err(|error| failed(rusqlite::Error::ToSqlConversionFailure(error.into())))?;
        let connection = Connection::open(path).map_err(failed)?;
        Self::set_up(&connection, path)?;
        let sizes = spool::sizes(&connection).map_err(failed)?;
        let waiting = spool::waiting(&connection, "true", &[]).map_err(failed)?;
        // What is damaged shows now.
        spool::paused(&connection).map_err(failed)?;
        let dead = sizes.iter().filter(|size| size.is_dead).count();
        let damage = Damage::of(path);
        let reader = Reader::open(path, damage.clone()).map_err(failed)?;
        let usages = Usages::new(&sizes);
        let mut database = Self { connection, path: path.to_owned(), damage, next_clean_up: 0, usages };
        let kept = database.load(now).map_err(failed)?;
        Ok(Opened { database, kept, waiting, dead, reader, damaged: None })
    }

    fn set_up(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
        let failed = |source| DatabaseError::Open { path: path.to_owned(), source };
        connection.busy_timeout(BUSY_LIMIT).map_err(failed)?;
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        if version > VERSION {
            return Err(DatabaseError::Newer { path: path.to_owned(), version });
        }
        // FULL: a commit returns after the log is synced. WAL: a commit is one sync, and sqlite3 can read meanwhile.
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        connection.pragma_update(None, "temp_store", "MEMORY").map_err(failed)?;
        let checked: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if checked != "ok" {
            let damage = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
            return Err(failed(rusqlite::Error::SqliteFailure(damage, Some(checked))));
        }
        connection.pragma_update(None, "journal_size_limit", LOG_BYTES).map_err(failed)?;
        if version == VERSION {
            // A full disk takes no write.
            return Ok(());
        }
        let tables = [SCHEMA, spool::SCHEMA].concat();
        let make = format!("BEGIN IMMEDIATE; {tables} PRAGMA user_version = {VERSION}; COMMIT;");
        connection.execute_batch(&make).map_err(failed)
    }

    /// What has not expired, and then what has expired lately.
    fn load(&mut self, now: UnixTime) -> rusqlite::Result<Vec<KeptDelivery>> {
        let mut statement =
            self.connection.prepare("SELECT digest, until FROM delivery WHERE until >= ?1 ORDER BY until DESC")?;
        let kept = |row: &rusqlite::Row<'_>| {
            let until: i64 = row.get(1)?;
            // Not negative, because it is hardly earlier than now.
            Ok(KeptDelivery { digest: row.get(0)?, until: u64::try_from(until).unwrap_or(0) })
        };
        statement.query_map([seconds(now) - GRACE_SECONDS], kept)?.collect()
    }

    /// Keeps `deliveries` in one transaction, and removes expired ones once a minute. When this returns, they survive a power failure.
    /// Without any, it tries whether the database can be written.
    ///
    /// # Errors
    ///
    /// Nothing of it is kept.
    pub fn store(&mut self, deliveries: &[KeptDelivery]) -> Result<(), DatabaseError> {
        self.store_at(deliveries, UnixTime::now())
    }

    fn store_at(&mut self, deliveries: &[KeptDelivery], now: UnixTime) -> Result<(), DatabaseError> {
        if deliveries.is_empty() {
            self.next_clean_up = 0;
        }
        self.write(now, |transaction| {
            keep(transaction, deliveries)?;
            if deliveries.is_empty() {
                // A write that changes nothing, so that a full or read-only disk shows.
                transaction.pragma_update(None, "user_version", VERSION)?;
            }
            Ok(())
        })
    }

    /// Makes `changes` in one transaction, and removes expired deliveries once a minute. When this returns, they survive a power failure.
    ///
    /// # Errors
    ///
    /// Nothing of it is kept.
    pub(super) fn write<T>(
        &mut self,
        now: UnixTime,
        changes: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
    ) -> Result<T, DatabaseError> {
        let damaged = || DatabaseError::Damaged { path: self.path.clone() };
        if self.damage.is_found() {
            return Err(damaged());
        }
        let cleans_up = now.as_secs() >= self.next_clean_up;
        let write = |connection: &mut Connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let made = changes(&transaction)?;
            if cleans_up {
                transaction.execute("DELETE FROM delivery WHERE until < ?1", [seconds(now) - GRACE_SECONDS])?;
            }
            transaction.commit()?;
            Ok(made)
        };
        let made = write(&mut self.connection).map_err(|source| match self.damage.note(&source) {
            true => damaged(),
            false => DatabaseError::Write { path: self.path.clone(), source },
        })?;
        if cleans_up {
            self.next_clean_up = now.as_secs().saturating_add(CLEAN_UP_SECONDS);
        }
        Ok(made)
    }

    /// Reads, for the dispatcher's beginning and for operators: of a damaged file too, as far as that goes.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> rusqlite::Result<T> {
        read(&self.connection).inspect_err(|error| {
            self.damage.note(error);
        })
    }

    /// Whether the file was found damaged, which was logged.
    pub(super) fn is_damaged(&self) -> bool {
        self.damage.is_found()
    }

    /// The connection itself.
    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// How many deliveries the file has, expired ones included.
    #[cfg(test)]
    pub(super) fn count(&self) -> rusqlite::Result<i64> {
        self.connection.query_row("SELECT count(*) FROM delivery", [], |row| row.get(0))
    }

    /// Makes every write fail, or no longer.
    #[cfg(test)]
    pub(super) fn set_writable(&self, is_writable: bool) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "query_only", !is_writable)
    }
}

/// Reads the requests of rows, beside the thread that writes.
#[derive(Debug)]
pub struct Reader {
    connection: Connection,
    damage: Damage,
}

impl Reader {
    fn open(path: &Path, damage: Damage) -> rusqlite::Result<Self> {
        // No creation, and no mutex: one thread has it.
        let connection =
            Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(BUSY_LIMIT)?;
        connection.pragma_update(None, "query_only", true)?;
        // The log is opened by the first statement, and must be before the process is confined.
        connection.query_row("SELECT count(*) FROM spool_pause", [], |_| Ok(()))?;
        Ok(Self { connection, damage })
    }

    /// Whether the file was found damaged, which was logged.
    pub fn is_damaged(&self) -> bool {
        self.damage.is_found()
    }

    /// The request of the delivery with this number; `None` if it is not there any more.
    ///
    /// # Errors
    ///
    /// [`ReadError`].
    pub fn request(&self, number: i64) -> Result<Option<StoredRequest>, ReadError> {
        // Its outcome could not be written.
        if self.damage.is_found() {
            return Err(ReadError::DamagedFile);
        }
        spool::stored_request(&self.connection, number).map_err(|error| match error {
            ReadError::Database(source) if self.damage.note(&source) => ReadError::DamagedFile,
            other => other,
        })
    }
}

/// Renames a damaged file, with its log: the log may have deliveries that the file has not. Returns the new name.
fn put_aside(path: &Path, now: UnixTime) -> Result<PathBuf, DatabaseError> {
    let failed = |source| DatabaseError::Aside { path: path.to_owned(), source };
    let aside = path.with_file_name(format!("deliveries-damaged-{}.db", now.as_secs()));
    let with_end = |of: &Path, end: &str| PathBuf::from(format!("{}{end}", of.display()));
    // The log first: a new file beside it would take it for its own.
    match rename(with_end(path, "-wal"), with_end(&aside, "-wal")) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        Ok(()) | Err(_) => {}
    }
    rename(path, &aside).map_err(failed)?;
    // The index of the log, which who opens the file makes anew. It may not exist.
    drop(std::fs::remove_file(with_end(path, "-shm")));
    Ok(aside)
}

/// Remembers deliveries.
pub(super) fn keep(transaction: &Transaction<'_>, deliveries: &[KeptDelivery]) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached("INSERT OR REPLACE INTO delivery (digest, until) VALUES (?1, ?2)")?;
    for delivery in deliveries {
        insert.execute(params![delivery.digest, spool::signed(delivery.until)])?;
    }
    Ok(())
}

/// A time as the table of remembered deliveries has it.
pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

/// Whether a full disk can be the reason.
fn is_of_the_disk(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::CannotOpen))
}

/// Whether the file is no database, or not a whole one, or has something else than this program writes.
fn is_damage(error: &rusqlite::Error) -> bool {
    let is_foreign = matches!(
        error,
        // A column of another type, length or encoding.
        rusqlite::Error::Utf8Error(..)
            | rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
    );
    is_foreign || is_corrupt(error)
}
