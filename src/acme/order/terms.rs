//! On what terms this server authorizes and certifies names: what an order or a pre-authorization is judged by.

use std::time::Duration;

use crate::acme::authz::Authorization;
use crate::acme::challenge::{Challenge, ChallengeType};
use crate::id::{AccountId, AuthzId, ChallengeId, Timestamp};
use crate::pki::name::Identifier;
use crate::pki::profile::Profile;

/// What this server gives an account: everything an order is judged by.
pub struct Terms<'a> {
    /// The profiles that may be asked for.
    pub profiles: &'a [Profile],
    /// The name of the one that is meant when none is asked for.
    pub default_profile: &'a str,
    /// The challenge types that are offered, the preferred one first.
    pub challenges: &'a [ChallengeType],
    /// The name policy: `Err` says, fit for the client, why a name is refused.
    pub permits: &'a dyn Fn(&Identifier) -> Result<(), String>,
    /// Whether proof of a name counts for those below it (RFC 9444).
    pub subdomains: bool,
    /// How long an order, and an authorization, stays pending.
    pub lifetime: Duration,
    /// The end of the certificate that issues for a profile, which no certificate outlives.
    pub issuer_ends: &'a dyn Fn(&Profile) -> Timestamp,
}

/// What an authorization will be for, and how it can be proven.
pub(in crate::acme) struct Proof {
    identifier: Identifier,
    subdomains: bool,
    challenges: Vec<ChallengeType>,
}

impl Proof {
    /// A pending authorization.
    pub(in crate::acme) fn authorization(
        self,
        account: AccountId,
        lifetime: Duration,
        random: &mut dyn FnMut() -> [u8; 16],
        now: Timestamp,
    ) -> Authorization {
        let challenges = self
            .challenges
            .iter()
            .map(|kind| Challenge::new(ChallengeId(random()), *kind, random()))
            .collect();
        let (id, lapses) = (AuthzId(random()), now.plus(lifetime));
        let made = Authorization::new(id, account, &self.identifier, challenges, now, lapses);
        if self.subdomains { made.with_subdomains() } else { made }
    }
}

impl Terms<'_> {
    /// Whether policy and profile permit an identifier; `Err` is fit for the client.
    pub(in crate::acme) fn judge(
        &self,
        identifier: &Identifier,
        profile: Option<&Profile>,
    ) -> Result<(), String> {
        (self.permits)(identifier)?;
        profile.map_or(Ok(()), |p| p.permits(identifier).map_err(|why| why.to_string()))
    }

    /// Proof of the identifier alone.
    pub(in crate::acme) fn proof_of_name(
        &self,
        identifier: &Identifier,
        accepted: &dyn Fn(&ChallengeType) -> bool,
    ) -> Result<Proof, String> {
        let fits = |kind: &&ChallengeType| kind.proves(identifier) && accepted(kind);
        let challenges: Vec<ChallengeType> = self.challenges.iter().filter(fits).copied().collect();
        if challenges.is_empty() {
            return Err("this server offers no challenge that could prove it".to_owned());
        }
        Ok(Proof { identifier: identifier.clone(), subdomains: false, challenges })
    }

    /// Proof of the identifier and of all names below it. A single label is nobody's zone.
    pub(in crate::acme) fn proof_of_zone(
        &self,
        identifier: &Identifier,
        accepted: &dyn Fn(&ChallengeType) -> bool,
    ) -> Result<Proof, String> {
        let zone = matches!(identifier, Identifier::Dns(name) if name.base().contains('.'));
        if !self.subdomains || !zone {
            return Err("this server takes no proof for the names below it".to_owned());
        }
        (self.permits)(&identifier.base())?;
        let below = |kind: &ChallengeType| kind.proves_subdomains() && accepted(kind);
        Ok(Proof { subdomains: true, ..self.proof_of_name(identifier, &below)? })
    }
}
