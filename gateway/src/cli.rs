//! The command line: subcommands, their arguments, and the texts of `--help`, from which the manual page hookgate(8) is made too.
//!
//! Must not do anything: `main.rs` calls what a subcommand names.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Receives webhooks over mutual TLS, verifies who sent them, and hands them to local handlers, over Unix sockets or loopback ports.
#[derive(Debug, Parser)]
#[command(name = "hookgate", version)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until SIGTERM or SIGINT. SIGHUP reloads the configuration
    Run {
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
        /// What is logged: off, error, warn, info, debug or trace, or a list with levels of modules, such as info,hookgate::tls=debug.
        /// Replaces HOOKGATE_LOG, which replaces level in [log]; without any of them, it is info
        #[arg(long, value_name = "LEVEL")]
        log: Option<String>,
    },
    /// Write a first configuration for one sender: from these options and, on a terminal, from answers to questions. Overwrites no file. Prints
    /// what to enter at the sender, which files are still missing, and what to do next
    Init(Init),
    /// Check the configuration, every file that it names, and whether this host has the sockets and ports. If there are errors, print them all
    /// and exit with status 1
    Check {
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
        /// The configuration in force, as a file in the same directory. Print what a reload would change and what needs a restart, and
        /// exit with status 1 if the reload would be refused
        #[arg(long)]
        against: Option<PathBuf>,
        /// The user of the service, such as hookgate. As root: become that user with its groups, and try to read every file and to connect to
        /// every handler
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
    },
    /// Fetch once what the configuration names by URL (ranges, revocation lists, token keys), and print what came. Nothing is kept. If a source fails, exit
    /// with status 1
    Fetch {
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// List the presets for providers with version and origin, or describe one
    Providers {
        /// Name of a preset, such as pagerduty
        name: Option<String>,
        /// Print the list as JSON
        #[arg(long, conflicts_with = "name")]
        json: bool,
        /// The configuration file, of which only [presets] is read. It need not exist
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// Look at a receiver as a sender would: its certificate chain, TLS versions and suites, which client certificates it asks for and what
    /// becomes of an absent or foreign one, the time to its answer. Sends no signature and no token, and {} as the body. The receiver need
    /// not be hookgate. Exit status 0: no action needed, 1: warnings, 2: faults, 3: nothing could be looked at
    Probe(Probe),
    /// Send what a sender sends, right or wrong in one way, and say whether the answer is the expected one. Exit status 0: it is, 1: it is not,
    /// or nothing was sent
    Send(Send),
    /// Say why a request, a certificate or a recent refusal is admitted or not, stage by stage, with the line of the configuration that decides
    /// and what would help. Without a certificate and a request, ask the running daemon. Exit status 0: admitted, 1: not, 2: nothing could be
    /// explained
    Explain(Explain),
    /// Inspect refused chains that may be genuine, because a sender changed its authority. Trusts nothing
    Trust {
        /// What to show
        #[command(subcommand)]
        command: TrustCommand,
    },
    /// Inspect and steer what durable routes have stored: deliveries that wait for their handlers, and dead letters. Asks the running daemon, as root
    /// or as its user
    Deliveries {
        /// What to do
        #[command(subcommand)]
        command: DeliveriesCommand,
    },
    /// Inspect the pre-filter, which drops packets from addresses that no provider uses
    Filter {
        /// What to show
        #[command(subcommand)]
        command: FilterCommand,
    },
}

/// What to write into a first configuration.
#[derive(Debug, Args)]
pub struct Init {
    /// The sender: the name of a preset, such as pagerduty (`hookgate providers` lists them)
    pub preset: Option<String>,
    /// The host of the webhook's URL, such as hooks.example.com
    #[arg(long)]
    pub host: Option<String>,
    /// The path of the webhook's URL. By default / and the name of the provider
    #[arg(long)]
    pub path: Option<String>,
    /// The handler's socket. By default /run/hookgate-handlers/NAME.sock, with the name of the provider
    #[arg(long, value_name = "SOCKET")]
    pub handler: Option<PathBuf>,
    /// A PEM file with the server certificate and its intermediates. By default certificates/fullchain.pem
    #[arg(long, value_name = "FILE")]
    pub chain: Option<PathBuf>,
    /// A PEM file with its key. By default certificates/privkey.pem
    #[arg(long, value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// The name of the provider in routes, logs and metrics. By default the name of the preset
    #[arg(long)]
    pub name: Option<String>,
    /// An address and port to listen on; repeat it for several. By default 0.0.0.0:443 and [::]:443
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Vec<String>,
    /// Which proof the sender shows, if the preset has several: token, session-parameter, signature, secret, basic. By default the first
    #[arg(long, value_name = "KIND")]
    pub proof: Option<String>,
    /// A value that only you know, such as token.project_number=123456789012, or another file: signature.secrets=github.secret. What is
    /// missing is named
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = key_and_value)]
    pub set: Vec<(String, String)>,
    /// Print the configuration to standard output, and write no file. Everything else goes to standard error
    #[arg(long)]
    pub print: bool,
    /// The file to write. It must not exist
    #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
    pub config: PathBuf,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

/// What to show of the refused chains.
#[derive(Debug, Subcommand)]
pub enum TrustCommand {
    /// List the chains in the state directory
    Pending {
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// Show a chain as PEM, what to compare, and what to write to admit it
    Show {
        /// Its number in the list
        number: usize,
        /// Print its new trust anchor alone
        #[arg(long)]
        anchor: bool,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
}

/// Which stored deliveries.
#[derive(Clone, Debug, Default, Args)]
pub struct StoredFilter {
    /// Those of this route alone
    #[arg(long, value_name = "NAME")]
    pub route: Option<String>,
    /// Those of this provider alone
    #[arg(long, value_name = "NAME")]
    pub provider: Option<String>,
    /// Those in this state alone
    #[arg(long)]
    pub state: Option<StoredState>,
}

/// The state of a stored delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum StoredState {
    /// It waits for its handler
    Waiting,
    /// It is a dead letter: no attempt follows
    Dead,
}

/// What to do with stored deliveries.
#[derive(Debug, Subcommand)]
pub enum DeliveriesCommand {
    /// List them, in the order in which they were stored
    List {
        /// Which.
        #[command(flatten)]
        filter: StoredFilter,
        /// Print them as a JSON array
        #[arg(long)]
        json: bool,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// Show one with its fields, which may hold secrets of its sender
    Show {
        /// Its id, which is the X-Request-Id of the sender's request
        id: String,
        /// Print its body, and nothing else
        #[arg(long)]
        body: bool,
        /// Print it as JSON; with --body, the body in base64 too
        #[arg(long)]
        json: bool,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// Attempt deliveries now. A dead letter waits again, for as long as it could at first
    #[command(group = clap::ArgGroup::new("which").required(true).multiple(false))]
    Retry {
        /// The id of one
        #[arg(group = "which")]
        id: Option<String>,
        /// All of this route, dead letters too
        #[arg(long, value_name = "NAME", group = "which")]
        route: Option<String>,
        /// Every dead letter
        #[arg(long, group = "which")]
        all_dead: bool,
        /// Print {"changed":N}, with the number of deliveries
        #[arg(long)]
        json: bool,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// Remove one for good. Its handler does not get it
    Drop {
        /// Its id
        id: String,
        /// Print {"changed":N}, with the number of deliveries
        #[arg(long)]
        json: bool,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// Print deliveries with fields and bodies, one JSON object a line. Bodies are in base64
    Export {
        /// Which.
        #[command(flatten)]
        filter: StoredFilter,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// Attempt none until they are resumed, also after a restart. Deliveries are still stored
    Pause {
        /// Those of this route. By default those of every route
        #[arg(long, value_name = "NAME")]
        route: Option<String>,
        /// Print {"changed":N}, with the number of pauses
        #[arg(long)]
        json: bool,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
    /// End a pause
    Resume {
        /// That of this route. By default every pause
        #[arg(long, value_name = "NAME")]
        route: Option<String>,
        /// Print {"changed":N}, with the number of pauses
        #[arg(long)]
        json: bool,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
}

/// What to show of the pre-filter.
#[derive(Debug, Subcommand)]
pub enum FilterCommand {
    /// Show what is attached, its ranges and counters, and whether an address passes and by which range
    Status {
        /// An IPv4 or IPv6 address to look up
        address: Option<IpAddr>,
        /// The configuration file
        #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
        config: PathBuf,
    },
}

/// Which receiver, and as which sender.
#[derive(Clone, Debug, Args)]
pub struct Receiver {
    /// The sender: the name of a preset, such as pagerduty
    #[arg(long = "as", value_name = "PRESET")]
    pub sender: Option<String>,
    /// The profile of the preset whose certificate the sender has. By default the last one that has no end
    #[arg(long)]
    pub profile: Option<String>,
    /// Connect to this address, and port if given, instead of what the host of the URL resolves to: 127.0.0.1:8443
    #[arg(long, value_name = "ADDRESS")]
    pub connect: Option<String>,
    /// A PEM file with roots that the sender trusts beside Mozilla's list, for a receiver with a certificate of its own authority
    #[arg(long, value_name = "FILE")]
    pub root: Vec<PathBuf>,
    /// Print the result as JSON, on one line
    #[arg(long)]
    pub json: bool,
    /// The configuration file, of which only [presets] is read. It need not exist
    #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
    pub config: PathBuf,
}

/// What to explain.
#[derive(Debug, Args)]
pub struct Explain {
    /// A request id or the SHA-256 fingerprint of a refused certificate, as the answer and the log have them; or a reason, such as no_route.
    /// Without anything, list the recent refusals
    #[arg(value_name = "ID|REASON")]
    pub what: Option<String>,
    /// A PEM file with a certificate and its intermediates, the end entity first, instead of the one that the daemon has kept. With --chain
    /// alone, no daemon is asked
    #[arg(long, value_name = "FILE")]
    pub chain: Option<PathBuf>,
    /// The server name that the sender connects to. By default the host of all routes, if they have one
    #[arg(long, value_name = "NAME")]
    pub server_name: Option<String>,
    /// The path of the request, with its query
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// The method of the request. By default POST
    #[arg(long, value_name = "METHOD")]
    pub method: Option<String>,
    /// A field of the request, such as "Authorization: Bearer …". Can be repeated
    #[arg(long, value_name = "NAME: VALUE")]
    pub header: Vec<String>,
    /// A file with the body of the request
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// The address that the sender connects from
    #[arg(long, value_name = "ADDRESS")]
    pub from: Option<IpAddr>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// The configuration file
    #[arg(long, short, default_value = "/etc/hookgate/hookgate.toml")]
    pub config: PathBuf,
}

/// What to probe.
#[derive(Debug, Args)]
pub struct Probe {
    /// The webhook URL, as the sender has it
    pub url: String,
    /// Which receiver, and as which sender.
    #[command(flatten)]
    pub receiver: Receiver,
    /// A PEM file with a client certificate and its intermediates that the receiver should accept
    #[arg(long, value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// A PEM file with its key
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
}

/// What to send.
#[derive(Debug, Args)]
pub struct Send {
    /// The webhook URL, as the sender has it. Without one, the throwaway authority and a certificate are made, and nothing is sent
    pub url: Option<String>,
    /// Which receiver, and as which sender.
    #[command(flatten)]
    pub receiver: Receiver,
    /// Send even if the sender would not accept the receiver's certificate
    #[arg(long)]
    pub insecure: bool,
    /// A PEM file with a client certificate of your own and its intermediates, instead of a throwaway one
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// A PEM file with its key
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
    /// The folder of the throwaway authority, made if it is missing. The receiver must trust root.pem in it. By default
    /// hookgate-throwaway/PRESET in the current directory
    #[arg(long, value_name = "FOLDER")]
    pub pki: Option<PathBuf>,
    /// A file with what the request proves itself by: the secret of the signature, whsec_…, a private key as PEM, a token, USER:PASSWORD, or
    /// the value of the session parameter
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Which proof to show, if the preset has several: signature, token, session-parameter, secret, basic
    #[arg(long, value_name = "KIND")]
    pub proof: Option<String>,
    /// The name of the session parameter
    #[arg(long, value_name = "NAME", default_value = "webhook_token")]
    pub parameter: String,
    /// Be wrong in this way, and expect a refusal. "list" prints the ways, and what is expected of each
    #[arg(long, value_name = "KIND")]
    pub wrong: Option<String>,
    /// A file with the body, instead of the documented one
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,
    /// The length of the body of --wrong too-large, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 2_097_152, value_parser = clap::value_parser!(u32).range(1..=1_073_741_824))]
    pub body_bytes: u32,
    /// How many webhooks to send. Each is a delivery of its own
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub count: u32,
    /// How many to send at a time
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=512))]
    pub concurrency: u32,
    /// Begin at most so many in a second
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: Option<u32>,
    /// Send many webhooks over one connection, instead of one over each
    #[arg(long)]
    pub keep_alive: bool,
}
