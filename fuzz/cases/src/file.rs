//! Target `file`: a file that the configuration names.
//!
//! Input: a byte that selects the role of the file, then its content.

use crate::memory::{INPUT, check_errors, parse};

/// The roles: what the configuration names the file as.
const ROLES: [Role; 6] = [Role::Anchors, Role::Chain, Role::Key, Role::List, Role::Keys, Role::Secret];

#[derive(Clone, Copy, Debug)]
enum Role {
    Anchors,
    Chain,
    Key,
    List,
    Keys,
    Secret,
}

/// Loads the file. Anything but a file of its role must be an error that a person can read.
pub fn judge(input: &[u8]) {
    let Some((selector, content)) = input.split_first() else { return };
    let role = ROLES[usize::from(*selector) % ROLES.len()];
    match parse(&configuration(role), content) {
        Ok((config, _)) => {
            let provider = &config.providers[0];
            assert!(!provider.profiles[0].trust_anchors.is_empty() && !provider.profiles[0].identity.is_empty());
            assert!(!config.certificates[0].of_files().is_some_and(|files| files.chain.is_empty()));
        }
        Err(errors) => check_errors(&errors),
    }
}

fn configuration(role: Role) -> String {
    let file = |own: Role, usual: &'static str| {
        if std::mem::discriminant(&own) == std::mem::discriminant(&role) { INPUT } else { usual }
    };
    format!(
        "[listen]\naddresses = [\"127.0.0.1:0\"]\n\
         [[certificate]]\nchain = \"{}\"\nkey = \"{}\"\n\
         [[key_source]]\nname = \"issuer\"\nfile = \"{}\"\n\
         [[provider]]\nname = \"sender\"\ntrust_anchors = [\"{}\"]\nidentity = [{{ subject_cn = \"sender\" }}]\n\
         crls = [\"{}\"]\n\
         [provider.proof]\nsignature = {{ form = \"pagerduty\", secrets = [{{ file = \"{}\" }}] }}\n\
         token = {{ key_source = \"issuer\", issuers = [\"i\"], audiences = [\"a\"], subjects = [\"s\"] }}\n\
         [[route]]\npath = \"/hook\"\nproviders = [\"sender\"]\nhandler = \"unix:/run/app.sock\"\n",
        file(Role::Chain, "fullchain.pem"),
        file(Role::Key, "privkey.pem"),
        file(Role::Keys, "keys.json"),
        file(Role::Anchors, "ca.pem"),
        file(Role::List, "list.pem"),
        file(Role::Secret, "webhook.secret"),
    )
}
