//! The file of deliveries as the program sqlite3 reads it beside the daemon: the commands of the documentation, and the schema.

use std::collections::BTreeSet;
use std::process::Command;

use hookgate_testkit::process::run;
use rusqlite::Connection;

use super::{Stored, with_id};
use crate::environment::SOON;

const CONFIGURATION: &str = include_str!("../../../docs/configuration.md");
const DELIVERY: &str = include_str!("../../../docs/delivery.md");

/// The sources whose first lines document the schema.
const DATABASE: &str = include_str!("../../../gateway/src/deliveries/database.rs");
const SPOOL: &str = include_str!("../../../gateway/src/deliveries/spool.rs");

/// Runs a shell command in the state directory. Returns its output by line.
fn shell(stored: &Stored, command: &str) -> Vec<String> {
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).current_dir(stored.base.environment.state_directory());
    let finished = run(shell, &[], SOON).unwrap();
    assert!(finished.success() && finished.stderr.is_empty(), "{command}: {}", finished.stderr_text());
    finished.stdout_text().lines().map(str::to_owned).collect()
}

/// The commands of a page that ask the database of a running daemon.
fn commands(page: &str) -> Vec<&str> {
    let code = page.split(['\n', '`']).map(str::trim);
    code.filter(|code| code.starts_with("sqlite3 ") && code.contains("deliveries.db ") && code.contains("select "))
        .collect()
}

#[test]
fn the_documented_commands_of_sqlite3_read_the_file_of_a_running_daemon() {
    let stored = Stored::with_copies();
    let send = |id: &str| stored.send_with(&with_id(id), "{}").field("x-request-id").unwrap().to_owned();
    let first = send("one");
    let (of_spool, of_memory) = (commands(DELIVERY), commands(CONFIGURATION));
    assert_eq!((of_spool.len(), of_memory.len()), (1, 1), "{of_spool:?} {of_memory:?}");
    let (spool, kept) = (of_spool[0], of_memory[0]);
    // id, route, state, attempts, outcome; the last two change as attempts fail.
    let ids = || -> Vec<String> {
        let rows = shell(&stored, spool);
        assert!(rows.iter().all(|row| row.contains("|orders|waiting|") && row.split('|').count() == 5), "{rows:?}");
        rows.iter().map(|row| row.split('|').next().unwrap().to_owned()).collect()
    };
    assert_eq!((ids(), shell(&stored, kept)), (vec![first.clone()], vec!["1".to_owned()]));
    // The daemon stores on, and sqlite3 sees it.
    let second = send("two");
    assert_eq!((ids(), shell(&stored, kept)), (vec![first, second], vec!["2".to_owned()]));
}

/// The statements between the marks of SQL at the beginning of a source.
fn documented(source: &str) -> String {
    let head = source.lines().map_while(|line| line.strip_prefix("//!")).map(str::trim_start);
    let sql = head.skip_while(|line| *line != "```sql").skip(1).take_while(|line| *line != "```");
    sql.collect::<Vec<_>>().join("\n")
}

/// The first column of the table after `heading` on the page: names between backticks.
fn named(heading: &str) -> BTreeSet<&str> {
    let table = DELIVERY.split(heading).nth(1).unwrap().trim_start().lines().take_while(|line| line.starts_with('|'));
    let cells = table.filter_map(|line| line.split('|').nth(1));
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn the_file_has_the_documented_columns() {
    let stored = Stored::new("");
    let in_memory = Connection::open_in_memory().unwrap();
    in_memory.execute_batch(&documented(DATABASE)).unwrap();
    in_memory.execute_batch(&documented(SPOOL)).unwrap();
    for table in ["delivery", "spool", "spool_pause"] {
        let mut statement = in_memory.prepare(&format!("PRAGMA table_info({table})")).unwrap();
        // As sqlite3 prints it: number, name, type, whether it may not be null, default, place in the primary key.
        let line = |row: &rusqlite::Row<'_>| {
            let (number, name, of_type): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let (not_null, default, key): (i64, Option<String>, i64) = (row.get(3)?, row.get(4)?, row.get(5)?);
            Ok(format!("{number}|{name}|{of_type}|{not_null}|{}|{key}", default.unwrap_or_default()))
        };
        let expected: Vec<String> = statement.query_map([], line).unwrap().collect::<Result<_, _>>().unwrap();
        let found = shell(&stored, &format!("sqlite3 -readonly deliveries.db 'pragma table_info({table})'"));
        assert_eq!(found, expected, "{table}");
        if table == "spool" {
            let columns: BTreeSet<&str> = found.iter().map(|line| line.split('|').nth(1).unwrap()).collect();
            let named: BTreeSet<&str> = named("\n| column | holds |\n").into_iter().collect();
            assert_eq!(columns, named);
        }
    }
    assert!(documented(SPOOL).starts_with(&format!(
        "-- user_version = {}\n",
        shell(&stored, "sqlite3 -readonly deliveries.db 'pragma user_version'")[0]
    )));
}
