//! `hookgate send`. Owns its exit status, and which certificate and proof the command line asks for.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use hookgate_client::attempt;
use hookgate_client::delivery::Plan;
use hookgate_client::pki::{Flaw, Pki};
use hookgate_client::proof::Key;
use hookgate_client::send::{Context, Job, Load, Sent, list};
use hookgate_client::sender::{CertificateShape, Proof, Sender};
use hookgate_client::target::Target;
use hookgate_client::wrong::{Part, Wrong};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;

use super::Usage;
use crate::{cli, crypto};

/// The exit status if an answer is not the expected one, or nothing was sent.
const FAILED: u8 = 1;
/// The word of `--wrong` that prints the others.
const LIST: &str = "list";
/// The folder of throwaway authorities, in the current directory.
const FOLDER: &str = "hookgate-throwaway";

/// Sends a webhook or many, and prints what came of it. Exit code 0 if every answer was the expected one, 2 if the command line is wrong, else 1.
pub fn send(arguments: &cli::Send) -> ExitCode {
    if arguments.wrong.as_deref() == Some(LIST) {
        print!("{}", list());
        return ExitCode::SUCCESS;
    }
    match deliver(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => super::failed(&error, FAILED),
    }
}

/// Makes the throwaway authority and a certificate, and sends nothing.
fn prepare(arguments: &cli::Send, sender: &Sender) -> Result<()> {
    let Some(shape) = &sender.certificate else {
        bail!("the URL is missing; {} has no client certificate, so there is nothing to prepare", sender.name);
    };
    let mut context = Context::default();
    throwaway(arguments, sender, shape, Flaw::None, &crypto::provider(), &mut context)?;
    println!("made {}", context.presents);
    println!("{}", trust(&Pki::root_in(&folder(arguments, sender))));
    Ok(())
}

/// What the receiver must trust.
fn trust(root: &Path) -> String {
    let root = std::path::absolute(root).unwrap_or_else(|_| root.to_owned());
    format!("the receiver must trust its authority: trust_anchors = [\"{}\"]", root.display())
}

fn folder(arguments: &cli::Send, sender: &Sender) -> PathBuf {
    arguments.pki.clone().unwrap_or_else(|| PathBuf::from(FOLDER).join(&sender.name))
}

/// Returns whether every answer was the expected one.
fn deliver(arguments: &cli::Send) -> Result<bool> {
    let receiver = &arguments.receiver;
    let sender = super::sender(receiver)?;
    let Some(url) = arguments.url.as_deref() else { return prepare(arguments, &sender).map(|()| true) };
    let target = Target::parse(url, receiver.connect.as_deref())?;
    let wrong = arguments.wrong.as_deref().map(wrong).transpose()?;
    let roots = super::roots(receiver)?;
    let provider = crypto::provider();
    let mut context = Context::default();
    let identity = certificate(arguments, &sender, wrong, &provider, &mut context)?;
    let key = arguments.secret_file.as_deref().map(Key::read).transpose().context("--secret-file")?;
    let proof = proof(&sender, arguments.proof.as_deref())?;
    if let (Some(proof), None) = (proof, &key) {
        let kind = proof.kind();
        context
            .advice
            .push(format!("without --secret-file, the request has no {kind}; a receiver that wants one refuses it"));
    }
    let body = arguments
        .body
        .as_deref()
        .map(|path| std::fs::read(path).with_context(|| format!("--body: {}", path.display())));
    let body = body.transpose()?;
    let plan = Plan {
        sender: &sender,
        target: &target,
        proof: proof.zip(key.as_ref()),
        parameter: &arguments.parameter,
        wrong,
        large_body_bytes: usize::try_from(arguments.body_bytes)?,
        body: body.as_deref(),
    };
    let job = Job { plan, identity, roots: &roots, insecure: arguments.insecure, provider: &provider };
    let sent = match arguments.count {
        1 => Sent::One(Box::new(super::block_on(job.send())??)),
        count => {
            let (concurrency, rate, keep_alive) = (arguments.concurrency, arguments.rate, arguments.keep_alive);
            Sent::Many(super::block_on(job.send_many(Load { count, concurrency, rate, keep_alive }))??)
        }
    };
    if receiver.json {
        println!("{}", sent.json(&job));
    } else {
        print!("{}", sent.text(&job, &context));
    }
    Ok(sent.is_expected(&job))
}

fn wrong(word: &str) -> Result<Wrong> {
    let known = || Wrong::ALL.iter().map(|wrong| wrong.id()).collect::<Vec<_>>().join(", ");
    let unknown = || Usage(format!("--wrong {word} is unknown; write \"{LIST}\", or one of {}", known()));
    Ok(Wrong::parse(word).ok_or_else(unknown)?)
}

/// The proof of the kind that is asked for, else the first that this program can make. `None` if the sender has none.
fn proof<'s>(sender: &'s Sender, kind: Option<&str>) -> Result<Option<&'s Proof>> {
    let can_make = |proof: &&Proof| !matches!(proof, Proof::Unsupported(_));
    let Some(kind) = kind else { return Ok(sender.proofs.iter().find(can_make).or(sender.proofs.first())) };
    let found = sender.proofs.iter().find(|proof| proof.kind() == kind);
    let kinds = || sender.proofs.iter().map(Proof::kind).collect::<Vec<_>>().join(", ");
    let unknown = || Usage(format!("--proof {kind}: the proofs of {} are {}", sender.name, kinds()));
    Ok(Some(found.ok_or_else(unknown)?))
}

/// The certificate to present, and what the receiver must know of it.
fn certificate(
    arguments: &cli::Send,
    sender: &Sender,
    wrong: Option<Wrong>,
    provider: &CryptoProvider,
    context: &mut Context,
) -> Result<Option<Arc<CertifiedKey>>> {
    let flaw = wrong.map_or(Flaw::None, Wrong::flaw);
    let is_about_certificate = wrong.is_some_and(|wrong| wrong.part() == Part::Certificate);
    if let Some((chain, key)) = arguments.cert.as_deref().zip(arguments.key.as_deref()) {
        return own(chain, key, wrong, provider, context).map(Some);
    }
    let Some(shape) = &sender.certificate else {
        if is_about_certificate {
            bail!("--wrong {}: {} has no client certificate", wrong.map_or("", Wrong::id), sender.name);
        }
        context.presents = "no client certificate: the sender has none".to_owned();
        return Ok(None);
    };
    if wrong == Some(Wrong::NoCertificate) {
        context.presents = "no client certificate".to_owned();
        return Ok(None);
    }
    if flaw == Flaw::MissingIntermediate && shape.depth < 2 {
        bail!(
            "--wrong missing-intermediate: the authority of {} issues its certificate without an intermediate",
            sender.name
        );
    }
    throwaway(arguments, sender, shape, flaw, provider, context).map(Some)
}

/// The user's own. Only what leaves something out can be wrong with it.
fn own(
    chain: &Path,
    key: &Path,
    wrong: Option<Wrong>,
    provider: &CryptoProvider,
    context: &mut Context,
) -> Result<Arc<CertifiedKey>> {
    let mut identity = super::identity(chain, key)?;
    match wrong {
        Some(Wrong::MissingIntermediate) => identity.chain.truncate(1),
        Some(wrong) if wrong.part() == Part::Certificate => bail!(
            "--wrong {} needs a certificate that is made for it: leave --cert out, and let the receiver trust the throwaway authority",
            wrong.id()
        ),
        _ => {}
    }
    context.presents = format!("the certificate of {}", chain.display());
    attempt::certified(&identity, provider).context("--key")
}

fn throwaway(
    arguments: &cli::Send,
    sender: &Sender,
    shape: &CertificateShape,
    flaw: Flaw,
    provider: &CryptoProvider,
    context: &mut Context,
) -> Result<Arc<CertifiedKey>> {
    let folder = folder(arguments, sender);
    let pki = Pki::open(&folder, shape)?;
    let identity = pki.client(flaw)?;
    let (chain, _) = pki.write(&identity)?;
    context.presents = format!("the throwaway certificate {} (profile {})", chain.display(), shape.profile);
    if pki.is_new() {
        context.advice.push(trust(&Pki::root_in(&folder)));
    }
    attempt::certified(&identity, provider).context("a throwaway key")
}
