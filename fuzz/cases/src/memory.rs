//! Files in memory (memfd_create(2)) that configurations name by `/proc/self/fd/N`.
//!
//! Owns their contents: a certificate for the gateway that is made once, and a file with the input. So a case touches no disk, and the
//! loading code of the daemon runs as it is.

use std::cell::RefCell;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::FileExt as _;

use hookgate::config::{Config, ConfigErrors, Warning};
use rcgen::{CertificateParams, KeyPair};
use rustix::fs::{MemfdFlags, Mode};

use crate::policy::NOW;

/// The name in a configuration that stands for the input.
pub(crate) const INPUT: &str = "input.file";

/// The files of this thread: name in a configuration, and file.
struct Files(Vec<(&'static str, File)>);

thread_local! {
    static FILES: RefCell<Files> = RefCell::new(Files::new());
}

impl Files {
    fn new() -> Self {
        let params = CertificateParams::new(vec!["hooks.example.com".to_owned()]).expect("a DNS name");
        let key = KeyPair::generate().expect("the system has random numbers");
        let certificate = params.self_signed(&key).expect("a key signs its own certificate");
        let contents: [(&str, Vec<u8>); 9] = [
            ("fullchain.pem", certificate.pem().into()),
            ("privkey.pem", key.serialize_pem().into()),
            ("ca.pem", include_bytes!("../root.pem").to_vec()),
            ("list.pem", include_bytes!("../list.pem").to_vec()),
            ("keys.json", include_bytes!("../keys.json").to_vec()),
            ("ranges.txt", b"192.0.2.0/24\n2001:db8::/32\n".to_vec()),
            ("webhook.secret", b"an open secret of 32 bytes, fine\n".to_vec()),
            ("standard.secret", b"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n".to_vec()),
            (INPUT, Vec::new()),
        ];
        Self(contents.into_iter().map(|(name, content)| (name, file(name, &content))).collect())
    }
}

fn file(name: &str, content: &[u8]) -> File {
    let descriptor = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).expect("the kernel has memory files");
    // Secrets and keys that others can read cause a warning.
    rustix::fs::fchmod(&descriptor, Mode::RUSR | Mode::WUSR).expect("the file is ours");
    let file = File::from(descriptor);
    file.write_all_at(content, 0).expect("the file is in memory");
    file
}

/// Parses a configuration in which [`INPUT`] has this content. Every name of a file in it is replaced by the path of that file.
pub(crate) fn parse(text: &str, input: &[u8]) -> Result<(Config, Vec<Warning>), ConfigErrors> {
    FILES.with_borrow(|files| {
        let mut text = text.to_owned();
        for (name, file) in &files.0 {
            if *name == INPUT {
                file.set_len(0).and_then(|()| file.write_all_at(input, 0)).expect("the file is in memory");
            }
            text = text.replace(name, &format!("/proc/self/fd/{}", file.as_raw_fd()));
        }
        Config::parse(&text, "/hookgate.toml".as_ref(), NOW)
    })
}

/// Errors are lines for a person: each names a place, and none has a control character that a stranger wrote.
pub(crate) fn check_errors(errors: &ConfigErrors) {
    let text = errors.to_string();
    assert!(!text.is_empty());
    for line in text.lines() {
        assert!(line.starts_with("/hookgate.toml"), "no place: {line:?}");
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}
