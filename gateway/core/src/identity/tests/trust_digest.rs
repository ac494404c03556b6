//! The digest of a policy: the same if and only if the policies are.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use rustls_pki_types::TrustAnchor;

use super::fixture::*;
use crate::identity::{
    AnchorFlaw, AwaitedLists, ChainCache, ChainLimits, ClientCertificate, Condition, ConfiguredAnchor, Digested as _,
    ExtendedKeyUsage, Identity, OnFailure, Profile, Provider, ProviderId, RefusalAnswer, RevocationList,
    RevocationLists, RevocationScope, Scope, Transcript, TrustAnchors, TrustDigest,
};

fn digest(identity: &Identity) -> TrustDigest {
    let mut transcript = Transcript::new("test");
    transcript.add(identity);
    transcript.finish()
}

fn digest_of(providers: Vec<Provider>) -> TrustDigest {
    digest(&policy(providers).0)
}

/// Anchors of which any two differ in one respect.
static ANCHORS: LazyLock<Vec<ConfiguredAnchor>> = LazyLock::new(|| {
    let (one, other) = (Authority::root("One"), Authority::root("Other"));
    let configured = |authority: &Authority| ConfiguredAnchor::of(&authority.certificate, NOW).unwrap();
    let plain = configured(&one);
    let with = |change: &dyn Fn(&mut TrustAnchor<'static>)| {
        let mut anchor = plain.clone();
        change(&mut anchor.trust_anchor);
        anchor
    };
    let key = configured(&other).trust_anchor.subject_public_key_info;
    let certificates_only =
        one.intermediate_by(Template::new(one.subject.clone()).with(authority_extension(None)).with(key_usage(&[5])));
    let not_an_authority = one.intermediate_by(Template::new(one.subject.clone()));
    let used_as =
        |authority: &Authority| ConfiguredAnchor { anchor_use: configured(authority).anchor_use, ..plain.clone() };
    assert_eq!(used_as(&not_an_authority).anchor_use.flaw(), Some(&AnchorFlaw::NotAnAuthority));
    assert!(!used_as(&certificates_only).anchor_use.signs_lists());
    vec![
        with(&|anchor| anchor.subject = common_name("Other")[2..].to_vec().into()),
        with(&|anchor| anchor.subject_public_key_info = key.clone()),
        with(&|anchor| anchor.name_constraints = Some(Vec::new().into())),
        with(&|anchor| anchor.name_constraints = Some(permitted_domain("a.example").into())),
        used_as(&not_an_authority),
        used_as(&certificates_only),
        plain,
    ]
});

/// Conditions of which some have the same text.
static CONDITIONS: LazyLock<Vec<Condition>> = LazyLock::new(|| {
    vec![
        Condition::subject("/CN=a").unwrap(),
        Condition::subject("/CN=a/O=b").unwrap(),
        Condition::subject("/CN=a+O=b").unwrap(),
        Condition::subject("/O=a").unwrap(),
        Condition::subject("CN=#0c0161").unwrap(),
        Condition::subject_cn("a.example").unwrap(),
        Condition::subject_cn("a").unwrap(),
        Condition::san_dns("a.example").unwrap(),
        Condition::san_dns("*.a.example").unwrap(),
        Condition::san_uri("a.example").unwrap(),
        Condition::SpkiSha256([b'a'; 32]),
        Condition::CertificateSha256([b'a'; 32]),
    ]
});

static LISTS: LazyLock<Vec<RevocationList>> = LazyLock::new(|| {
    let root = Authority::root("One");
    vec![
        root.revocation_list(&[], NOW, NOW + DAY),
        root.revocation_list(&[&[7]], NOW, NOW + DAY),
        root.revocation_list(&[&[8]], NOW, NOW + DAY),
        root.revocation_list(&[&[7]], NOW, NOW + 2 * DAY),
    ]
});

/// What a profile says, as places in the lists above.
#[derive(Clone, Debug, PartialEq)]
struct ProfileModel {
    name: u8,
    anchors: Vec<usize>,
    depth: u8,
    rules: Vec<Vec<usize>>,
    usage: usize,
    /// Whether only the end entity is looked up, and the lists.
    revocation: Option<(bool, BTreeSet<usize>)>,
}

#[derive(Clone, Debug, PartialEq)]
struct ProviderModel {
    name: u8,
    profiles: Vec<ProfileModel>,
    aborts: bool,
    /// Whether a static secret suffices; `None` if a certificate is required.
    without: Option<bool>,
}

const USAGES: [ExtendedKeyUsage; 3] =
    [ExtendedKeyUsage::ClientAuth, ExtendedKeyUsage::ClientAuthExplicit, ExtendedKeyUsage::Ignore];

impl ProfileModel {
    fn profile(&self) -> Profile {
        let Self { name, anchors, depth, rules, usage, revocation } = self;
        let conditions = |rule: &Vec<usize>| rule.iter().map(|place| CONDITIONS[*place].clone()).collect();
        Profile {
            name: format!("{name}").into(),
            trust_anchors: anchors.iter().map(|place| ANCHORS[*place].clone()).collect(),
            overlap_ends: None,
            verify_depth: *depth,
            identity: rules.iter().map(|conditions_of| rule(conditions(conditions_of))).collect(),
            extended_key_usage: USAGES[*usage],
            revocation: revocation.as_ref().map(|(end_entity, lists)| {
                let scope = if *end_entity { RevocationScope::EndEntity } else { RevocationScope::Chain };
                RevocationLists::new(lists.iter().map(|place| LISTS[*place].clone()).collect(), scope)
            }),
        }
    }

    /// The same with one change.
    fn neighbours(&self) -> Vec<Self> {
        let mut all = vec![
            Self { name: self.name + 1, ..self.clone() },
            Self { depth: self.depth + 1, ..self.clone() },
            Self { usage: (self.usage + 1) % USAGES.len(), ..self.clone() },
        ];
        all.extend(arrays(&self.anchors, ANCHORS.len()).into_iter().map(|anchors| Self { anchors, ..self.clone() }));
        for (place, conditions) in self.rules.iter().enumerate() {
            all.extend(arrays(conditions, CONDITIONS.len()).into_iter().map(|conditions| {
                let mut changed = self.clone();
                changed.rules[place] = conditions;
                changed
            }));
        }
        let rules = rearranged(&self.rules).into_iter();
        all.extend(rules.map(|rules| Self { rules, ..self.clone() }));
        match &self.revocation {
            None => all.push(Self { revocation: Some((false, BTreeSet::new())), ..self.clone() }),
            Some((scope, lists)) => {
                let with = |scope, lists| Self { revocation: Some((scope, lists)), ..self.clone() };
                all.push(Self { revocation: None, ..self.clone() });
                all.push(with(!scope, lists.clone()));
                let toggled = |place| lists ^ &BTreeSet::from([place]);
                all.extend((0..LISTS.len()).map(|place| with(*scope, toggled(place))));
            }
        }
        all
    }
}

impl ProviderModel {
    fn provider(&self) -> Provider {
        let Self { name, profiles, aborts, without } = self;
        Provider {
            name: format!("{name}").into(),
            profiles: profiles.iter().map(ProfileModel::profile).collect(),
            on_failure: if *aborts { OnFailure::Abort } else { OnFailure::Respond },
            refusal: RefusalAnswer::Deny,
            client_certificate: match *without {
                None => ClientCertificate::Required,
                Some(static_secret_suffices) => ClientCertificate::None { static_secret_suffices },
            },
        }
    }

    fn neighbours(&self) -> Vec<Self> {
        let mut all = vec![
            Self { name: self.name + 1, ..self.clone() },
            Self { aborts: !self.aborts, ..self.clone() },
            Self { without: if self.without.is_none() { Some(true) } else { None }, ..self.clone() },
            Self { without: Some(self.without != Some(true)), ..self.clone() },
        ];
        for (place, profile) in self.profiles.iter().enumerate() {
            all.extend(profile.neighbours().into_iter().map(|profile| {
                let mut changed = self.clone();
                changed.profiles[place] = profile;
                changed
            }));
        }
        all.extend(rearranged(&self.profiles).into_iter().map(|profiles| Self { profiles, ..self.clone() }));
        all
    }
}

/// `array` with an element more, less, in another place, or moved to the front.
fn rearranged<T: Clone>(array: &[T]) -> Vec<Vec<T>> {
    let mut all = Vec::new();
    for place in 0..array.len() {
        let mut shorter = array.to_vec();
        let removed = shorter.remove(place);
        all.push([&[removed][..], &shorter].concat());
        all.push([array, &array[place..=place]].concat());
        if !shorter.is_empty() {
            all.push(shorter);
        }
    }
    all
}

/// As [`rearranged`], and with each element replaced by the next of `number`.
fn arrays(array: &[usize], number: usize) -> Vec<Vec<usize>> {
    let replaced = (0..array.len()).map(|place| {
        let mut changed = array.to_vec();
        changed[place] = (changed[place] + 1) % number;
        changed
    });
    rearranged(array).into_iter().chain(replaced).collect()
}

fn any_profile() -> impl Strategy<Value = ProfileModel> {
    let rules = vec(vec(0..CONDITIONS.len(), 1..3), 1..3);
    let revocation = proptest::option::of((any::<bool>(), btree_set(0..LISTS.len(), 0..3)));
    let parts = (0..2_u8, vec(0..ANCHORS.len(), 1..3), 1..3_u8, rules, 0..USAGES.len(), revocation);
    parts.prop_map(|(name, anchors, depth, rules, usage, revocation)| ProfileModel {
        name,
        anchors,
        depth,
        rules,
        usage,
        revocation,
    })
}

fn any_policy() -> impl Strategy<Value = Vec<ProviderModel>> {
    let provider = (0..2_u8, vec(any_profile(), 1..3), any::<bool>(), proptest::option::of(any::<bool>()));
    let provider =
        provider.prop_map(|(name, profiles, aborts, without)| ProviderModel { name, profiles, aborts, without });
    vec(provider, 1..3)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Compares the policy, every policy that differs from it in one respect, and each two of those.
    #[test]
    fn any_single_change_is_another_digest(policy in any_policy()) {
        let mut all = vec![policy.clone()];
        all.extend(rearranged(&policy));
        for (place, provider) in policy.iter().enumerate() {
            all.extend(provider.neighbours().into_iter().map(|provider| {
                let mut changed = policy.clone();
                changed[place] = provider;
                changed
            }));
        }
        let mut known: HashMap<TrustDigest, Vec<ProviderModel>> = HashMap::new();
        for model in all {
            let digest = digest_of(model.iter().map(ProviderModel::provider).collect());
            let of_digest = known.entry(digest).or_insert_with(|| model.clone());
            prop_assert_eq!(&*of_digest, &model);
        }
        prop_assert!(known.len() > 10, "only {} policies", known.len());
    }
}

/// A policy with everything that a provider can have.
fn whole() -> Vec<Provider> {
    let revocation = Some((false, BTreeSet::from([0, 1])));
    let profile =
        ProfileModel { name: 0, anchors: vec![0, 6], depth: 2, rules: vec![vec![0, 7]], usage: 0, revocation };
    vec![ProviderModel { name: 0, profiles: vec![profile], aborts: false, without: None }.provider()]
}

#[test]
fn what_admits_nobody_does_not_count() {
    let same = |change: &dyn Fn(&mut Provider)| {
        let mut providers = whole();
        change(&mut providers[0]);
        assert_eq!(digest_of(providers), digest_of(whole()));
    };
    same(&|_| {});
    same(&|provider| provider.refusal = RefusalAnswer::Retry);
    same(&|provider| provider.profiles[0].overlap_ends = Some(at(NOW)));
    same(&|provider| {
        let later = [0, 6].map(|place| ConfiguredAnchor { not_after: NOW + 9 * DAY, ..ANCHORS[place].clone() });
        provider.profiles[0].trust_anchors = TrustAnchors::from_iter(later);
    });
    let lists = |places: [usize; 2]| {
        RevocationLists::new(places.map(|place| LISTS[place].clone()).to_vec(), RevocationScope::Chain)
    };
    same(&|provider| provider.profiles[0].revocation = Some(lists([1, 0])));
    same(&|provider| {
        let awaited = AwaitedLists { from_urls: true, incomplete: true, from_certificates: true };
        provider.profiles[0].revocation = Some(lists([0, 1]).awaiting(awaited));
    });
    // A list that was read again.
    same(&|provider| {
        let again = [0, 1].map(|place| RevocationList::from_der(LISTS[place].der()).unwrap());
        provider.profiles[0].revocation = Some(RevocationLists::new(again.to_vec(), RevocationScope::Chain));
    });
}

#[test]
fn what_belongs_to_one_process_does_not_count() {
    let cache = Arc::new(ChainCache::new(8, Duration::from_secs(60)));
    let limits = ChainLimits { max_certificates: 2, max_bytes: 100 };
    let other = Identity::new(7, whole().into(), cache, limits);
    assert_eq!(digest(&other), digest_of(whole()));
    let lists = |_, _| Some(whole()[0].profiles[0].revocation.clone().unwrap());
    assert_eq!(digest(&other.with_lists(8, lists)), digest_of(whole()));
    let scope = |id| {
        let mut transcript = Transcript::new("test");
        Scope { id, providers: vec![ProviderId(1), ProviderId(2)] }.add_to(&mut transcript);
        transcript.finish()
    };
    assert_eq!(scope(1), scope(2));
}

#[test]
fn a_purpose_is_a_part_of_the_digest() {
    assert_ne!(Transcript::new("a").finish(), Transcript::new("b").finish());
}
