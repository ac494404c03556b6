//! `hookgate check` on the host: sockets of handlers, the user of the service, ports, and what it says beside errors.

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;

use hookgate_testkit::process::{Finished, run};
use hookgate_testkit::root::is_root;

use super::{check, good, hookgate, line_of};
use crate::environment::{BINARY, Environment, SOON, handler_socket, quoted};

/// The one line of `text`.
#[track_caller]
pub(crate) fn one_line(text: &str) -> &str {
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1, "{text}");
    lines[0]
}

/// Runs `hookgate check --user USER` on a file with this text.
fn check_as(environment: &Environment, text: &str, user: &str) -> Finished {
    let file = environment.write("checked.toml", text).unwrap();
    hookgate(&[OsStr::new("check"), OsStr::new("--config"), file.as_os_str(), OsStr::new("--user"), OsStr::new(user)])
}

#[test]
fn check_warns_of_a_handler_that_requests_cannot_reach() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let handler = handler_socket(&environment.dialogflow);
    let with = |path: &Path| text.replace(&handler, &format!("\"unix:{}\"", path.display()));
    let warned = |path: &Path, words: &str| {
        let text = with(path);
        let (code, stdout, stderr) = check(&environment, &text);
        assert!(code == Some(0) && stdout.contains(" 1 warning\n"), "{stdout}{stderr}");
        let line = one_line(&stderr);
        let place = format!(
            "checked.toml:{}: route[1].handler: ",
            line_of(&text, &format!("handler = \"unix:{}\"", path.display()))
        );
        assert!(line.starts_with("warning: ") && line.contains(&place) && line.contains(words), "{words}: {line}");
    };
    let absent = environment.path("absent.sock");
    warned(&absent, "absent.sock, so requests are answered with status 502; start the handler, or write the path");
    warned(&environment.path("nowhere/absent.sock"), "its directory does not exist either; make it");
    // The only other route of the file has another handler.
    let durable = |path: &Path| {
        let route = format!("handler = \"unix:{}\"", path.display());
        let state = format!("\n[state]\ndirectory = {}\n", quoted(&environment.path("spool")));
        with(path).replace(&route, &format!("{route}\ndelivery = \"durable\"")) + &state
    };
    fs::DirBuilder::new().mode(0o700).create(environment.path("spool")).unwrap();
    let (code, _, stderr) = check(&environment, &durable(&absent));
    let words =
        "absent.sock, so deliveries are stored, answered with status 202, and wait for the handler; start the handler";
    assert!(code == Some(0) && one_line(&stderr).contains(words), "{stderr}");
    let file = environment.write("file.sock", "").unwrap();
    warned(&file, "file.sock is a regular file, and a handler listens on a Unix stream socket");
    warned(environment.directory.path(), "is a directory, and a handler listens");
    let _listener = UnixListener::bind(&absent).unwrap();
    assert_eq!(check(&environment, &with(&absent)).2, "");
}

#[test]
fn check_warns_of_each_handler_of_a_list_and_of_ports_without_a_listener() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let handler = handler_socket(&environment.dialogflow);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap();
    let with = |list: &str| text.replace(&format!("handler = {handler}"), &format!("handler = {list}"));
    assert_eq!(check(&environment, &with(&format!("\"http://{port}\""))).2, "");
    let list = format!("[{handler}, {{ address = \"http://{port}\" }}, \"unix:{}\"]", environment.path("c").display());
    let (code, _, stderr) = check(&environment, &with(&list));
    let line = one_line(&stderr);
    assert!(code == Some(0) && line.contains("route[1].handler[2]: there is no socket "), "{line}");
    assert!(line.contains("/c, so requests go to the others of its list; start the handler"), "{line}");
    // Another route has this handler alone.
    let absent = format!("\"unix:{}\"", environment.path("d").display());
    let alone = with(&format!("[{handler}, {absent}]")).replace(&handler_socket(&environment.events), &absent);
    let (code, _, stderr) = check(&environment, &alone);
    let words =
        "alone are answered with status 502 (202 if it is durable), and those of a list go to its others; start";
    assert!(code == Some(0) && one_line(&stderr).contains(words), "{stderr}");
    drop(listener);
    let (code, _, stderr) = check(&environment, &with(&format!("\"http://{port}\"")));
    let words = format!("route[1].handler: no process listens on {port}, so requests are answered with status 502");
    assert!(code == Some(0) && one_line(&stderr).contains(&words), "{stderr}");
}

/// What a start says of the state directory, `check` says before it, in the same words.
#[test]
fn check_looks_at_the_state_directory_as_a_start_does() {
    let environment = Environment::new().unwrap();
    let directory = environment.path("above/state");
    let text = good(&environment).unwrap() + &format!("\n[state]\ndirectory = {}\n", quoted(&directory));
    let place = format!("checked.toml:{}: state.directory: ", line_of(&text, "directory = "));
    let refused = |words: &str| {
        let (code, _, stderr) = check(&environment, &text);
        let line = one_line(&stderr).to_owned();
        assert!(code == Some(1) && line.contains(&place) && line.contains(words), "{words}: {stderr}");
        let mut command = Command::new(BINARY);
        let file = environment.path("checked.toml");
        let ports = text.replace("127.0.0.1:18443", "127.0.0.1:0").replace("127.0.0.1:19464", "127.0.0.1:0");
        fs::write(&file, ports).unwrap();
        command.args(["run", "--config"]).arg(&file).env("NO_COLOR", "1").env_remove("HOOKGATE_LOG");
        let log = run(command, &[], SOON).unwrap().stderr_text();
        let errors: Vec<&str> = log.lines().filter(|line| line.contains("ERROR")).collect();
        assert!(errors.len() == 1 && errors[0].contains(&line), "{line}: {log}");
    };
    refused("it does not exist; create it with mode 0700, owned by the user of hookgate");
    fs::create_dir(environment.path("above")).unwrap();
    assert_eq!(check(&environment, &text).2, "", "a start makes it");
    fs::write(&directory, "").unwrap();
    refused("it is not a directory; create it with mode 0700");
    fs::remove_file(&directory).unwrap();
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    refused("has mode 0755, which gives other users access; change it to 0700 (chmod)");
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(check(&environment, &text).2, "");
}

#[test]
fn check_says_that_the_service_makes_its_state_directory() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap() + "\n[state]\ndirectory = \"/var/lib/hookgate\"\n";
    if Path::new("/var/lib/hookgate").exists() {
        eprintln!("SKIPPED: this host has the directory of the service");
        return;
    }
    let (code, _, stderr) = check(&environment, &text);
    let words = "there is no directory /var/lib/hookgate yet: hookgate.service makes it when it starts";
    assert!(code == Some(0) && one_line(&stderr).contains(words), "{stderr}");
    assert!(
        stderr.contains(&format!("checked.toml:{}: state.directory: ", line_of(&text, "directory = "))),
        "{stderr}"
    );
}

#[test]
fn check_as_another_user_looks_at_the_owner_of_the_state_directory() {
    if !is_root("the tests of hookgate check --user") {
        return;
    }
    let environment = Environment::new().unwrap();
    let directory = environment.path("state");
    fs::create_dir(&directory).unwrap();
    let mode = |mode: u32| fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o700);
    let text = good(&environment).unwrap() + &format!("\n[state]\ndirectory = {}\n", quoted(&directory));
    let _ = public(&environment, &text);
    let place = format!("checked.toml:{}: state.directory: ", line_of(&text, "directory = "));
    let refused = |words: &str| {
        let finished = check_as(&environment, &text, "nobody");
        let stderr = finished.stderr_text();
        let line = one_line(&stderr);
        assert!(!finished.success() && line.contains(&place) && line.contains(words), "{words}: {stderr}");
    };
    refused("belongs to user 0, and hookgate runs as user nobody; change the owner: `chown -R nobody:nogroup ");
    let user = number("-u");
    chown(&directory, Some(user), None).unwrap();
    assert_eq!(check_as(&environment, &text, "nobody").stderr_text(), "");
    mode(0o500);
    refused("user nobody may not write to the state directory ");
    chown(&directory, Some(0), Some(number("-g"))).unwrap();
    mode(0o750);
    let stderr = check_as(&environment, &text, "nobody").stderr_text();
    let told: Vec<&str> = stderr.lines().filter(|line| line.contains(&place)).collect();
    assert!(told.len() == 2 && told[0].contains("has mode 0750, which gives other users access"), "{stderr}");
    assert!(told[1].contains("belongs to user 0"), "all at once: {stderr}");
}

#[test]
fn check_notes_what_only_a_default_does() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let (_, stdout, stderr) = check(&environment, &text);
    let line = line_of(&text, "preset = \"pagerduty\"");
    let note = format!("checked.toml:{line}: provider[0].preset: this sender waits 5000 ms for the answer");
    assert!(
        stderr.is_empty() && stdout.contains(&note) && stdout.contains("write handler_timeout_ms = 5000"),
        "{stdout}"
    );
    let slow = text.replace("[limits]", "[limits]\nhandler_timeout_ms = 5001");
    let (_, stdout, stderr) = check(&environment, &slow);
    let place = format!("checked.toml:{}: limits.handler_timeout_ms: ", line_of(&slow, "handler_timeout_ms"));
    assert!(one_line(&stderr).contains(&place) && !stdout.contains("this sender waits"), "{stderr}{stdout}");
}

/// Every section that can be repeated, in the brackets of one that cannot: one error that says what to write.
#[test]
fn check_says_how_a_section_in_single_brackets_is_written() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let one = |section: &str| {
        let text = text.replacen(&format!("[[{section}]]"), &format!("[{section}]"), 1);
        let start = text.find(&format!("[{section}]\n")).unwrap();
        // What remains of the section in double brackets is a second definition, which TOML itself refuses.
        let text = text.split(&format!("[[{section}]]")).next().unwrap().to_owned();
        let (code, _, stderr) = check(&environment, &text);
        let line = text[..start].lines().count() + 1;
        let words = format!(
            "checked.toml:{line}: {section}: this section can be repeated; write [[{section}]] instead of [{section}]"
        );
        assert!(code == Some(1) && stderr.contains(&words), "{words}\n{stderr}");
    };
    ["certificate", "provider", "route"].into_iter().for_each(one);
}

#[test]
fn check_tells_what_a_user_may_not_do() {
    if !is_root("the tests of hookgate check --user") {
        return;
    }
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let (directory, secret) = (environment.directory.path(), environment.path("webhook.secret"));
    let (uid, gid) = (number("-u"), number("-g"));
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let refused = |words: &str| {
        let finished = check_as(&environment, &text, "nobody");
        let stderr = finished.stderr_text();
        assert!(finished.status.unwrap().code() == Some(1) && stderr.contains(words), "{words}: {stderr}");
        stderr
    };
    // The directory of the test belongs to root alone.
    mode(directory, 0o700);
    let stderr =
        refused(&format!("user nobody may not enter the directory {} (mode 0700, user 0", directory.display()));
    assert!(stderr.contains("checked.toml: user nobody") && stderr.contains("chmod g+x"), "{stderr}");
    mode(directory, 0o755);
    // Files with keys belong to root alone, so each is named with its line. Nothing else is wrong.
    let stderr =
        refused(&format!("checked.toml:{}: certificate[0].key: user nobody may not read ", line_of(&text, "key = ")));
    let line = line_of(&text, "signature.secrets");
    assert!(stderr.contains(&format!("checked.toml:{line}: provider[0].signature.secrets[0].file: ")), "{stderr}");
    assert!(stderr.lines().count() == 2 && stderr.contains("webhook.secret (mode 0600, user 0"), "{stderr}");
    // The owner and the group count.
    chown(&environment.server.key_path, Some(uid), None).unwrap();
    chown(&secret, None, Some(gid)).unwrap();
    mode(&secret, 0o640);
    mode(environment.events.path(), 0o777);
    mode(environment.dialogflow.path(), 0o755);
    let finished = check_as(&environment, &text, "nobody");
    let stderr = finished.stderr_text();
    let line = line_of(&text, &format!("handler = {}", handler_socket(&environment.dialogflow)));
    let words = format!("checked.toml:{line}: route[1].handler: user nobody may not connect to the socket ");
    assert!(finished.success() && one_line(&stderr).contains(&words) && stderr.contains("SocketMode=0660"), "{stderr}");
    mode(environment.dialogflow.path(), 0o777);
    let finished = check_as(&environment, &text, "nobody");
    assert!(finished.success() && finished.stderr_text().is_empty(), "{}", finished.stderr_text());
    assert!(finished.stdout_text().contains(" 0 warnings"), "{}", finished.stdout_text());
    let tickets = environment.write("tickets.secret", "0123456789abcdef0123456789abcdef").unwrap();
    mode(&tickets, 0o600);
    let sealed = format!("{text}\n[tickets]\nsecrets = [{{ file = {} }}]\n", quoted(&tickets));
    let stderr = check_as(&environment, &sealed, "nobody").stderr_text();
    let words =
        format!("checked.toml:{}: tickets.secrets[0].file: user nobody may not read ", line_of(&sealed, "secrets = "));
    assert!(one_line(&stderr).contains(&words), "{stderr}");
    // A socket that a handler left behind.
    let left = environment.path("left.sock");
    drop(UnixListener::bind(&left).unwrap());
    mode(&left, 0o777);
    let stale = text.replace(&handler_socket(&environment.dialogflow), &format!("\"unix:{}\"", left.display()));
    let stderr = check_as(&environment, &stale, "nobody").stderr_text();
    assert!(one_line(&stderr).contains("no program listens on the socket "), "{stderr}");
}

/// What a symbolic link leads to counts too, as certbot makes them.
#[test]
fn check_follows_links_to_directories_that_a_user_may_not_enter() {
    if !is_root("the tests of hookgate check --user") {
        return;
    }
    let environment = Environment::new().unwrap();
    let archive = environment.path("archive");
    fs::create_dir(&archive).unwrap();
    fs::set_permissions(environment.directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions(&archive, fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(&environment.server.chain_path, archive.join("chain1.pem")).unwrap();
    std::os::unix::fs::symlink("archive/chain1.pem", &environment.server.chain_path).unwrap();
    let text = good(&environment).unwrap();
    let stderr = check_as(&environment, &text, "nobody").stderr_text();
    let line = line_of(&text, "chain = ");
    let words = format!(
        "checked.toml:{line}: certificate[0].chain: user nobody may not enter the directory {} (mode 0700",
        archive.display()
    );
    assert!(stderr.contains(&words), "{words}\n{stderr}");
}

#[test]
fn check_refuses_a_user_that_it_cannot_become() {
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    for (user, words) in
        [("no-such-user", "--user no-such-user: there is no such user on this host"), ("-u", "no such user")]
    {
        let file = environment.write("checked.toml", &text).unwrap();
        let argument = format!("--user={user}");
        let finished =
            hookgate(&[OsStr::new("check"), OsStr::new("--config"), file.as_os_str(), OsStr::new(&argument)]);
        let stderr = finished.stderr_text();
        assert!(finished.status.unwrap().code() == Some(1) && one_line(&stderr).contains(words), "{stderr}");
    }
    if is_root("the test of hookgate check --user without root") {
        let file = public(&environment, &text);
        let stderr = as_nobody(&file, &["--user", "root"]).stderr_text();
        assert!(
            one_line(&stderr).contains("--user root: only root can look as another user; run this with sudo"),
            "{stderr}"
        );
    }
}

/// A port that a running program has is no longer in question.
#[test]
fn check_warns_of_a_port_that_may_not_be_bound() {
    if !is_root("the test of ports below 1024") {
        return;
    }
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap();
    let first: u16 =
        fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap().trim().parse().unwrap();
    if first < 2 {
        eprintln!("SKIPPED: every user of this host may bind every port");
        return;
    }
    let free = (600..first.min(1000)).find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()).unwrap();
    let text = text.replace("127.0.0.1:18443", &format!("127.0.0.1:{free}"));
    let file = public(&environment, &text);
    let finished = as_nobody(&file, &[]);
    let stderr = finished.stderr_text();
    let words = format!("checked.toml:{}: listen.addresses[0]: user ", line_of(&text, "addresses"));
    let may_not = format!("may not bind port {free}: ports below {first} need CAP_NET_BIND_SERVICE");
    assert!(finished.success() && stderr.contains(&words) && one_line(&stderr).contains(&may_not), "{stderr}");
    let stderr = check_as(&environment, &text, "nobody").stderr_text();
    assert!(stderr.contains(&format!("user nobody {may_not}")), "{stderr}");
    let _listener = TcpListener::bind(("127.0.0.1", free)).unwrap();
    assert_eq!(as_nobody(&file, &[]).stderr_text(), "");
}

/// Lets every user read the files of the environment.
fn public(environment: &Environment, text: &str) -> std::path::PathBuf {
    let file = environment.write("checked.toml", text).unwrap();
    let mode = |path: &Path, mode: u32| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(environment.directory.path(), 0o755);
    for socket in [environment.events.path(), environment.dialogflow.path()] {
        mode(socket, 0o777);
    }
    for file in [&environment.server.key_path, &environment.path("webhook.secret")] {
        chown(file, Some(number("-u")), None).unwrap();
    }
    file
}

/// Runs `hookgate check` as the user nobody, without a capability.
fn as_nobody(file: &Path, arguments: &[&str]) -> Finished {
    // Not every user may enter the directory of the build.
    let copy = file.with_file_name("hookgate");
    // By a program: a descriptor that is open for writing here could be inherited by the child of another test, and then the copy is busy.
    let mut install = Command::new("install");
    install.args(["-m", "0755", BINARY]).arg(&copy);
    assert!(run(install, &[], SOON).unwrap().success());
    let mut command = Command::new("setpriv");
    command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]).arg(copy);
    command.args(["check", "--config"]).arg(file).args(arguments).env("NO_COLOR", "1");
    command.env_remove("CREDENTIALS_DIRECTORY").current_dir("/");
    run(command, &[], SOON).unwrap()
}

/// What id(1) says of nobody.
fn number(what: &str) -> u32 {
    let mut command = Command::new("id");
    command.args([what, "nobody"]);
    run(command, &[], SOON).unwrap().stdout_text().trim().parse().unwrap()
}

/// A port that another process has is a note: hookgate itself may have it.
#[test]
fn check_notes_a_port_that_is_taken() {
    let environment = Environment::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let text = good(&environment).unwrap().replace("127.0.0.1:19464", &format!("127.0.0.1:{port}"));
    let state = environment.path("own-state");
    fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
    let text = text + &format!("\n[state]\ndirectory = {}\n", quoted(&state));
    let words =
        format!("metrics.listen: port {port} is taken, and the start fails while it is, unless hookgate itself has it");
    let (code, stdout, _) = check(&environment, &text);
    assert!(code == Some(0) && stdout.contains(&words), "{stdout}");
    // One that answers at the control socket is taken for the owner of the ports.
    let _running = UnixListener::bind(state.join("control.sock")).unwrap();
    let (_, stdout, _) = check(&environment, &text);
    assert!(!stdout.contains("is taken"), "{stdout}");
    // RFC 5737: an address of documentation.
    let (_, _, stderr) = check(&environment, &text.replace("127.0.0.1:18443", "192.0.2.1:18443"));
    assert!(stderr.contains("listen.addresses[0]: 192.0.2.1 is no address of this host now"), "{stderr}");
}

/// A sender with public roots alone ends the handshake.
#[test]
fn check_notes_a_chain_that_ends_at_no_public_root() {
    let environment = Environment::new().unwrap();
    let (code, stdout, stderr) = check(&environment, &good(&environment).unwrap());
    assert!(code == Some(0) && stderr.is_empty(), "{stderr}");
    let note = "note: ";
    let line =
        stdout.lines().find(|line| line.contains("certificate[0].chain: the chain ends at ")).unwrap_or_default();
    assert!(line.starts_with(note) && line.contains("neither a public root nor one of this host"), "{stdout}");
}

#[test]
fn a_journal_that_is_absent_is_named_with_its_line() {
    if Path::new("/run/systemd/journal/socket").exists() {
        eprintln!("SKIPPED: this host has a journal");
        return;
    }
    let environment = Environment::new().unwrap();
    let text = good(&environment).unwrap() + "\n[log]\nformat = \"journal\"\n";
    let place = format!("checked.toml:{}: log.format: there is no journal at ", line_of(&text, "format = \"journal\""));
    let (code, _, stderr) = check(&environment, &text);
    assert!(code == Some(0) && one_line(&stderr).contains(&place), "{stderr}");
    let mut command = Command::new(BINARY);
    command.args(["run", "--config"]).arg(environment.path("checked.toml"));
    let finished = run(command, &[], SOON).unwrap();
    assert!(finished.stderr_text().contains(&place), "{}", finished.stderr_text());
}

/// What is wrong with the host is told beside what is wrong in the file, and all of it at once.
#[test]
fn check_prints_the_errors_of_the_file_and_of_the_host_together() {
    let environment = Environment::new().unwrap();
    let state = environment.path("open");
    fs::DirBuilder::new().mode(0o755).create(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o755)).unwrap();
    let text = good(&environment).unwrap() + &format!("\n[state]\ndirectory = {}\n", quoted(&state));
    let (code, _, stderr) = check(&environment, &text.replacen("key = \"", "key = \"/nowhere", 1));
    assert_eq!(code, Some(1));
    assert!(stderr.contains("certificate[0].key: ") && stderr.contains("has mode 0755"), "{stderr}");
    if !is_root("a file that its owner may not read") {
        return;
    }
    let key = environment.server.key_path.clone();
    chown(&key, Some(65534), Some(65534)).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o040)).unwrap();
    let stderr = check_as(&environment, &text, "nobody").stderr_text();
    assert!(stderr.contains("has mode 0755"), "{stderr}");
    // Its owner gets the bits of the owner, whatever its group has.
    let own = format!(
        "user nobody owns {0} and may not read it (mode 0040, user 65534, group 65534); `chmod u+r {0}`",
        key.display()
    );
    assert!(stderr.contains(&own) || stderr.contains("may not enter the directory"), "{stderr}");
}
