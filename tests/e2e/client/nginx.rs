//! A real nginx as the receiver.
//!
//! Owns the process and its configuration. Needs Debian's nginx or another.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use hookgate_testkit::gateway::free_port;
use hookgate_testkit::process::KilledOnDrop;
use hookgate_testkit::wait::wait_until;

use super::HOST;
use super::server_chain::ServerChain;
use crate::environment::SOON;

/// A running nginx.
#[derive(Debug)]
pub(super) struct Nginx {
    _process: KilledOnDrop,
    pub(super) port: u16,
}

impl Nginx {
    /// Starts one in `directory` with `chain`, and these lines in `server { … }`.
    pub(super) fn start(directory: &Path, chain: &ServerChain, lines: &str) -> Result<Self> {
        let port = free_port()?;
        let place = directory.display();
        let (certificate, key) = (chain.chain.display(), chain.key.display());
        let file = directory.join("nginx.conf");
        let configuration = format!(
            "daemon off; master_process off; pid {place}/nginx.pid; error_log {place}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{\n access_log off; client_body_temp_path {place}/body; proxy_temp_path {place}/proxy;\n \
             fastcgi_temp_path {place}/fastcgi; uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;\n \
             server {{\n  listen 127.0.0.1:{port} ssl; server_name {HOST};\n  \
             ssl_certificate {certificate}; ssl_certificate_key {key};\n{lines}\n }}\n}}\n"
        );
        fs::write(&file, configuration)?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&file).arg("-p").arg(directory).arg("-e").arg(directory.join("start.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("nginx cannot be started; `cargo xtask setup test` installs it")?;
        let nginx = Self { _process: KilledOnDrop(child), port };
        let accepts = || TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok();
        let started = wait_until("nginx", SOON, accepts);
        ensure!(started.is_ok(), "nginx did not start: {}", fs::read_to_string(directory.join("start.log"))?);
        Ok(nginx)
    }
}
