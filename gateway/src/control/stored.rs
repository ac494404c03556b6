//! `hookgate deliveries`: the stored deliveries of durable routes, as the running daemon has them.
//!
//! Owns the output and the exit codes; `progress` is what a terminal shows meanwhile. Asks the daemon over the control socket; must not open the
//! database, which the daemon alone writes.

mod progress;

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use self::progress::Progress;
use super::inquiry::{ControlSocket, DELIVERIES};
use crate::cli::{DeliveriesCommand, StoredFilter, StoredState};
use crate::config::Config;
use crate::deliveries::{Answer, Command, Filter, Listed, PAGE, Selection, Shown, now_ms};

/// More than any answer has: a body of half a gibibyte in base64.
const ANSWER_BYTES: u64 = 1 << 30;

/// The time-out of each system call: the daemon may have to wait for its disk.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most characters of an outcome in a list.
const SHOWN_OUTCOME: usize = 70;

/// Runs the command. Exit code 0, or 1 if there is an error.
pub fn deliveries(command: &DeliveriesCommand) -> ExitCode {
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        // Such as `| head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

fn run(command: &DeliveriesCommand) -> anyhow::Result<()> {
    match command {
        DeliveriesCommand::List { filter, json, config } => list(&Daemon::of(config)?, filter, *json),
        DeliveriesCommand::Show { id, body, json, config } => show(&Daemon::of(config)?, id, *body, *json),
        DeliveriesCommand::Export { filter, config } => export(&Daemon::of(config)?, filter),
        DeliveriesCommand::Retry { id, route, all_dead, json, config } => {
            let (selection, progress) = match (id, route, all_dead) {
                (Some(id), _, _) => (Selection::Id(id.clone()), Progress::hidden()),
                (None, Some(route), _) => (Selection::Route(route.clone()), Progress::changing()),
                (None, None, true) => (Selection::AllDead, Progress::changing()),
                (None, None, false) => bail!("write an id, --route NAME or --all-dead"),
            };
            let count = Daemon::of(config)?.change(&Command::Retry(selection));
            drop(progress);
            let count = count?;
            changed(*json, count, &format!("{} attempted now", deliveries_are(count)))
        }
        DeliveriesCommand::Drop { id, json, config } => {
            let count = Daemon::of(config)?.change(&Command::Drop { id: id.clone() })?;
            changed(*json, count, &format!("{} dropped", deliveries_are(count)))
        }
        DeliveriesCommand::Pause { route, json, config } => {
            let daemon = Daemon::of(config)?;
            daemon.expect_route(route.as_deref())?;
            let count = daemon.change(&Command::Pause { route: route.clone() })?;
            let already = if count == 0 { " already" } else { "" };
            let subject = subject(route.as_deref());
            let text = format!("{subject} paused{already}: deliveries are stored, and none is attempted");
            changed(*json, count, &text)
        }
        DeliveriesCommand::Resume { route, json, config } => {
            let count = Daemon::of(config)?.change(&Command::Resume { route: route.clone() })?;
            ensure!(
                count > 0,
                "{} not paused; hookgate deliveries resume without --route ends every pause",
                subject(route.as_deref())
            );
            changed(*json, count, &format!("{} resumed", subject(route.as_deref())))
        }
    }
}

/// As the database has it.
fn word(state: StoredState) -> &'static str {
    match state {
        StoredState::Waiting => "waiting",
        StoredState::Dead => "dead",
    }
}

fn subject(route: Option<&str>) -> String {
    route.map_or_else(|| "every route is".to_owned(), |route| format!("route \"{route}\" is"))
}

fn deliveries_are(count: u64) -> String {
    if count == 1 { "1 delivery is".to_owned() } else { format!("{count} deliveries are") }
}

/// Says what a change did, for a program or for an operator.
fn changed(json: bool, count: u64, text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout();
    Ok(if json { writeln!(out, "{}", serde_json::json!({ "changed": count })) } else { writeln!(out, "{text}") }?)
}

/// The daemon of a configuration.
struct Daemon {
    socket: ControlSocket,
    /// The names of the routes; `None` if the configuration has an error.
    routes: Option<Vec<String>>,
}

impl Daemon {
    fn of(path: &Path) -> anyhow::Result<Self> {
        Ok(match Config::load(path) {
            Ok((config, _)) => {
                let routes = config.routes.iter().map(|route| route.name.to_string()).collect();
                Self { socket: ControlSocket::of(&config), routes: Some(routes) }
            }
            // The daemon runs with the configuration before, or on the file of another one.
            Err(_) if path.exists() => Self { socket: ControlSocket::of_erroneous(path), routes: None },
            Err(errors) => bail!("{errors}"),
        })
    }

    fn answer(&self, command: &Command) -> anyhow::Result<Answer> {
        let question = format!("{DELIVERIES} {}", serde_json::to_string(command)?);
        let answer = self.socket.ask(&question, ANSWER_BYTES, PATIENCE)?;
        serde_json::from_slice(&answer).with_context(|| self.socket.other_version())
    }

    fn ask(&self, command: &Command) -> anyhow::Result<Answer> {
        match self.answer(command)? {
            Answer::Error(error) => bail!("{error}"),
            answer => Ok(answer),
        }
    }

    fn change(&self, command: &Command) -> anyhow::Result<u64> {
        match self.ask(command)? {
            Answer::Changed(count) => Ok(count),
            _ => bail!("the daemon gave another answer than asked for"),
        }
    }

    fn show(&self, id: &str, body: bool) -> anyhow::Result<Shown> {
        match self.ask(&Command::Show { id: id.to_owned(), body })? {
            Answer::Delivery(shown) => Ok(*shown),
            _ => bail!("the daemon gave another answer than asked for"),
        }
    }

    /// Calls `each` with every delivery that fits.
    fn list(&self, filter: &StoredFilter, mut each: impl FnMut(&Listed) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let StoredFilter { route, provider, state } = filter;
        let state = state.map(|state| word(state).to_owned());
        let mut filter = Filter { route: route.clone(), provider: provider.clone(), state, after: 0 };
        loop {
            let Answer::Deliveries(found) = self.ask(&Command::List(filter.clone()))? else {
                bail!("the daemon gave another answer than asked for");
            };
            found.iter().try_for_each(&mut each)?;
            match found.last() {
                Some(last) if found.len() >= usize::try_from(PAGE)? => filter.after = last.number,
                _ => return Ok(()),
            }
        }
    }

    /// Fails if the configuration has no such route: a pause of it would say nothing.
    fn expect_route(&self, route: Option<&str>) -> anyhow::Result<()> {
        let (Some(route), Some(names)) = (route, &self.routes) else { return Ok(()) };
        ensure!(
            names.iter().any(|name| name == route),
            "there is no route \"{route}\"; the routes are {}",
            names.join(", ")
        );
        Ok(())
    }
}

fn list(daemon: &Daemon, filter: &StoredFilter, json: bool) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    let is_for_eyes = out.is_terminal();
    if json {
        let (mut all, progress) = (Vec::new(), Progress::listing());
        daemon.list(filter, |found| {
            all.push(found.clone());
            progress.advance();
            Ok(())
        })?;
        drop(progress);
        if all.is_empty() {
            daemon.expect_route(filter.route.as_deref())?;
        }
        return Ok(writeln!(out, "{}", serde_json::to_string(&all)?)?);
    }
    let (mut count, now) = (0_u64, now_ms());
    daemon.list(filter, |found| {
        count += 1;
        Ok(writeln!(out, "{}", line(found, now, is_for_eyes))?)
    })?;
    if count == 0 {
        // A route without a stored delivery is one of the configuration, or mistyped.
        daemon.expect_route(filter.route.as_deref())?;
        let StoredFilter { route, provider, state } = filter;
        let is_narrowed = route.is_some() || provider.is_some() || state.is_some();
        writeln!(
            out,
            "{}",
            if is_narrowed { "no stored delivery fits these options" } else { "no delivery is stored" }
        )?;
    }
    Ok(())
}

/// One delivery on one line; a long outcome is cut on a terminal alone.
fn line(found: &Listed, now: u64, is_for_eyes: bool) -> String {
    let Listed { id, route, provider, state, attempts, received_ms, next_ms, outcome, bytes, is_paused, .. } = found;
    let age = seconds(now.saturating_sub(*received_ms));
    let next = match state.as_str() {
        "waiting" if *is_paused => "paused".to_owned(),
        "waiting" if *next_ms > now => format!("next in {}", seconds(next_ms - now)),
        "waiting" => "due".to_owned(),
        _ => "-".to_owned(),
    };
    let outcome = if is_for_eyes { cut(outcome) } else { outcome.clone() };
    format!("{id}  {state}  {route}  {provider}  age {age}  attempts {attempts}  {next}  {bytes} bytes  {outcome}")
}

/// The beginning of an outcome, on one line of a list.
fn cut(outcome: &str) -> String {
    match outcome.char_indices().nth(SHOWN_OUTCOME) {
        None => outcome.to_owned(),
        Some((end, _)) => format!("{}…", outcome.get(..end).unwrap_or(outcome)),
    }
}

/// Milliseconds as seconds, minutes or hours.
fn seconds(milliseconds: u64) -> String {
    match milliseconds / 1000 {
        seconds @ 0..120 => format!("{seconds}s"),
        seconds @ 120..7200 => format!("{}m", seconds / 60),
        seconds => format!("{}h", seconds / 3600),
    }
}

fn show(daemon: &Daemon, id: &str, body: bool, json: bool) -> anyhow::Result<()> {
    let shown = daemon.show(id, body)?;
    let mut out = io::stdout().lock();
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&shown)?)?);
    }
    if let Some(body) = &shown.body_base64 {
        let body = data_encoding::BASE64.decode(body.as_bytes()).context("the daemon sent a damaged body")?;
        return Ok(out.write_all(&body)?);
    }
    let Shown { listed, proof, fields, body_bytes, behind, .. } = &shown;
    writeln!(out, "{}", line(listed, now_ms(), out.is_terminal()))?;
    writeln!(out, "proof {proof}")?;
    if let Some(first) = behind {
        writeln!(out, "waits until {first}, which came before it with the same order key, is taken or dead")?;
    }
    if !listed.outcome.is_empty() {
        writeln!(out, "last outcome: {}", listed.outcome)?;
    }
    writeln!(out, "\n{} {}", listed.method, listed.target)?;
    // Text of a peer: a terminal obeys escape sequences.
    for (name, value) in fields {
        writeln!(out, "{name}: {}", value.escape_debug().to_string().replace("\\\"", "\"").replace("\\'", "'"))?;
    }
    Ok(writeln!(out, "\n({body_bytes} bytes of body; --body prints them)")?)
}

/// One JSON object a line, with the body.
fn export(daemon: &Daemon, filter: &StoredFilter) -> anyhow::Result<()> {
    let mut ids = Vec::new();
    let progress = Progress::listing();
    daemon.list(filter, |found| {
        ids.push(found.id.clone());
        progress.advance();
        Ok(())
    })?;
    drop(progress);
    let mut out = io::stdout().lock();
    // Lines on a terminal tell how far it is.
    let progress = if out.is_terminal() { Progress::hidden() } else { Progress::exporting(ids.len()) };
    let (mut failed, mut first) = (0_u64, String::new());
    for id in ids {
        match daemon.answer(&Command::Show { id: id.clone(), body: true })? {
            Answer::Delivery(shown) => writeln!(out, "{}", serde_json::to_string(&shown)?)?,
            // One that was taken meanwhile is left out.
            error if error == Answer::unknown(&id) => {}
            Answer::Error(error) => {
                failed += 1;
                if failed == 1 {
                    first = format!("{id}: {error}");
                }
            }
            _ => bail!("the daemon gave another answer than asked for"),
        }
        progress.advance();
    }
    drop(progress);
    ensure!(failed == 0, "{failed} of the deliveries could not be exported; the first: {first}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_cut_and_what_is_paused() {
        let listed = |outcome: &str, is_paused| Listed {
            number: 1,
            id: "a".to_owned(),
            route: "r".to_owned(),
            provider: "p".to_owned(),
            state: "waiting".to_owned(),
            attempts: 1,
            received_ms: 0,
            next_ms: 0,
            until_ms: 9_000,
            outcome: outcome.to_owned(),
            bytes: 5,
            method: "POST".to_owned(),
            target: "/".to_owned(),
            is_paused,
        };
        let exact = "é".repeat(SHOWN_OUTCOME);
        assert!(line(&listed(&exact, false), 1000, true).ends_with(&format!("  due  5 bytes  {exact}")));
        let long = listed(&(exact.clone() + "x"), true);
        assert!(line(&long, 1000, true).ends_with(&format!("  paused  5 bytes  {exact}…")));
        assert!(line(&long, 1000, false).ends_with(&format!("  {exact}x")), "a program reads the whole outcome");
        let dead = Listed { state: "dead".to_owned(), ..listed("", true) };
        assert!(line(&dead, 1000, true).contains("  -  5 bytes"), "a dead letter has no next attempt to hold");
    }
}
