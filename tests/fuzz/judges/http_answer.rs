//! What a device's web server answers to http-01, read by the validator itself over a network in memory.

use std::sync::Arc;

use chancery::acme::challenge::ChallengeType;
use chancery::env::simulated::{SimulatedDialer, SimulatedResolver};
use chancery::id::{AccountId, Timestamp};
use chancery::pki::name::Identifier;
use chancery::validate::{Asker, Attempt, Observation, Settings, Validator};

const KEY_AUTHORIZATION: &str = "token.thumbprint";

/// True if it was taken for the right answer.
pub(crate) fn judge(data: &[u8]) -> bool {
    let (resolver, dialer) = (Arc::new(SimulatedResolver::new()), Arc::new(SimulatedDialer::new()));
    let address = "10.0.0.1".parse().unwrap();
    resolver.answer("a.lan", Ok(vec![address]));
    let response = data.to_vec();
    dialer.listen_http((address, 80).into(), move |_| response.clone());
    let validator = Validator::new(Settings::default(), resolver, dialer.clone()).unwrap();
    let attempt = Attempt {
        kind: ChallengeType::Http01,
        identifier: Identifier::parse("dns", "a.lan").unwrap(),
        wildcard: false,
        subdomains: false,
        token: "token".to_owned(),
        key_authorization: KEY_AUTHORIZATION.to_owned(),
        asker: Asker {
            id: AccountId([7; 16]),
            url: "https://ca.lan/acme/acct/7".to_owned(),
            thumbprints: Vec::new(),
            hash_prefix: "https://ca.lan/acme/account-hash/".to_owned(),
        },
        now: Timestamp(1_795_305_599_000),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let observed = runtime.block_on(validator.attempt(attempt));
    let dialled = dialer.dialled();
    assert!(dialled.len() <= 11 * 4);
    assert!(dialled.iter().all(|address| [80, 443].contains(&address.port())), "{dialled:?}");
    match observed {
        Observation::Matched { from, until } => {
            assert_eq!((from, until), (Some(address), None));
            let whole =
                data.windows(KEY_AUTHORIZATION.len()).any(|w| w == KEY_AUTHORIZATION.as_bytes());
            let chunked = data.windows(7).any(|w| w.eq_ignore_ascii_case(b"chunked"));
            assert!(whole || chunked, "what was not said was believed");
            true
        }
        Observation::Failed(problem) => {
            assert!(!problem.to_json().contains("quoted"), "{}", problem.to_json());
            false
        }
    }
}
