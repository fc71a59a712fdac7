//! Every fault that the faulty module knows, in every phase of a box's life.

use std::time::Duration;

/// One fault: what it is called in the table, and how it is made.
#[derive(Clone)]
pub struct Fault {
    pub kind: &'static str,
    /// Rules; `{id}` stands for its own id, and for ids that begin with it.
    pub rules: String,
    /// The id in the ledger that shows that it happened; `{id}` as above.
    pub shows: &'static str,
    /// Stays for so long after it showed; it is over when it is taken away.
    pub lasts: Duration,
    pub meets: Meets,
}

impl Fault {
    /// Whether only a new process goes on after it.
    pub fn ends_the_process(&self) -> bool {
        let ends = ["do hang", "do abort", "do segfault", "do exit"];
        self.rules.lines().any(|rule| ends.iter().any(|end| rule.ends_with(end)))
    }
}

/// What has to go on for a fault to be met, and to be over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Meets {
    /// Orders.
    Orders,
    /// Requests to this box as a witness.
    Cosignatures,
    /// A revocation, and nothing else: the CRL's is the issuing key's only signature.
    Crl,
    /// Nothing may be given a PIN while it lasts.
    NoLogin,
}

const MOMENT: Duration = Duration::from_millis(1000);

fn once(kind: &'static str, rules: impl Into<String>) -> Fault {
    let lasts = Duration::ZERO;
    Fault { kind, rules: rules.into(), shows: "{id}", lasts, meets: Meets::Orders }
}

fn lasting(kind: &'static str, shows: &'static str, rules: impl Into<String>) -> Fault {
    Fault { shows, lasts: MOMENT, ..once(kind, rules) }
}

/// Every variant of every kind. `ids` are the CKA_IDs of issuing and log key.
pub fn every(ids: [&str; 2]) -> Vec<Fault> {
    let mut all = Vec::new();
    let labels = ["chancery-issuing", "chancery-log"];

    for value in [
        "CKR_DEVICE_ERROR",
        "CKR_GENERAL_ERROR",
        "CKR_FUNCTION_FAILED",
        "CKR_DEVICE_MEMORY",
        "CKR_HOST_MEMORY",
        "CKR_SESSION_HANDLE_INVALID",
        "CKR_SESSION_CLOSED",
        "CKR_OPERATION_ACTIVE",
        "CKR_OPERATION_NOT_INITIALIZED",
        "CKR_KEY_HANDLE_INVALID",
        "CKR_OBJECT_HANDLE_INVALID",
        "CKR_USER_NOT_LOGGED_IN",
        "CKR_DEVICE_REMOVED",
        "CKR_TOKEN_NOT_PRESENT",
        "CKR_SLOT_ID_INVALID",
        "CKR_CRYPTOKI_NOT_INITIALIZED",
        "CKR_TOKEN_RESOURCE_EXCEEDED",
        "CKR_FUNCTION_CANCELED",
        "CKR_FUNCTION_NOT_SUPPORTED",
        "CKR_ARGUMENTS_BAD",
        "CKR_DATA_LEN_RANGE",
        "CKR_BUFFER_TOO_SMALL",
        "CKR_KEY_FUNCTION_NOT_PERMITTED",
        "CKR_MECHANISM_INVALID",
        "CKR_PIN_EXPIRED",
        "0x80000001",
    ] {
        for function in ["C_SignInit", "C_Sign"] {
            for label in labels {
                all.push(once(
                    "a call fails",
                    format!("on {function} label {label} times 1 id {{id}} do return {value}"),
                ));
            }
            all.push(once(
                "a call fails five times",
                format!("on {function} times 5 id {{id}} do return {value}"),
            ));
        }
    }
    for function in ["C_SignInit", "C_Sign"] {
        for value in ["CKR_FUNCTION_FAILED", "CKR_DEVICE_ERROR", "CKR_SESSION_CLOSED"] {
            all.push(once(
                "an answer is lost",
                format!("on {function} times 1 id {{id}} do lose {value}"),
            ));
        }
        all.push(lasting(
            "every third call fails",
            "{id}",
            format!("on {function} chance 1/3/7 id {{id}} do return CKR_DEVICE_ERROR"),
        ));
        all.push(once("a session ends", format!("on {function} times 1 id {{id}} do end-session")));
        all.push(once(
            "all sessions end",
            format!("on {function} times 1 id {{id}} do end-sessions"),
        ));
        all.push(once(
            "all sessions end, until C_Initialize",
            format!("on {function} times 1 id {{id}} do disconnect"),
        ));
        all.push(once("logged out", format!("on {function} times 1 id {{id}} do logout")));
        all.push(once("hangs for 700 ms", format!("on {function} times 3 id {{id}} do hang 700")));
        all.push(once("hangs for ever", format!("on {function} times 1 id {{id}} do hang")));
        for how in ["abort", "segfault", "exit"] {
            all.push(once(
                "the process crashes",
                format!("on {function} times 1 id {{id}} do {how}"),
            ));
        }
    }
    for times in [1, 2, 5] {
        all.push(once(
            "object handles change",
            format!("on C_SignInit times {times} id {{id}} do handles"),
        ));
    }
    all.push(lasting("slow", "{id}", "on C_Sign id {id} do sleep 300"));
    all.push(lasting("slow", "{id}", "one-at-a-time\non C_Sign id {id} do sleep 70"));
    for how in ["", " cold", " listed", " listed cold", " slotless", " slotless cold"] {
        all.push(lasting("the token is taken out and put back", "absent", format!("absent{how}")));
    }
    for most in [1, 2] {
        all.push(lasting(
            "too few sessions",
            "sessions",
            format!("sessions {most}\non C_SignInit times 1 id {{id}} do end-sessions"),
        ));
    }
    for spoilt in ["flip", "zero", "short", "stale"] {
        for label in labels {
            all.push(once(
                "a wrong signature",
                format!("on C_Sign label {label} times 1 id {{id}} do {spoilt}"),
            ));
            all.push(once(
                "wrong signatures, in trials too",
                format!("on C_Sign label {label} times 4 id {{id}} do {spoilt}"),
            ));
        }
    }
    let [issuing, log] = ids;
    for (from, to) in [(issuing, log), (log, issuing)] {
        all.push(lasting(
            "another key under the CKA_ID",
            "{id}",
            format!(
                "on C_SignInit times 1 id {{id}}-trigger do handles\non C_FindObjectsInit id {{id}} do id {from} {to}"
            ),
        ));
    }
    for attribute in
        ["CKA_EXTRACTABLE 01", "CKA_SENSITIVE 00", "CKA_SIGN 00", "CKA_NEVER_EXTRACTABLE hidden"]
    {
        all.push(lasting(
            "a key looks extractable or useless",
            "{id}",
            format!(
                "on C_SignInit times 1 id {{id}}-trigger do end-sessions\non C_GetAttributeValue id {{id}} do attribute {attribute}"
            ),
        ));
    }
    for flags in ["0x20000", "0x40000", "0x30000"] {
        all.push(Fault {
            meets: Meets::NoLogin,
            ..lasting(
                "the PIN's last try, or none",
                "token-flags",
                format!("token-flags {flags}\non C_SignInit times 1 id {{id}} do end-sessions"),
            )
        });
    }
    for value in ["CKR_FUNCTION_FAILED", "CKR_DEVICE_ERROR", "CKR_GENERAL_ERROR"] {
        all.push(once(
            "the login fails",
            format!(
                "on C_SignInit times 1 id {{id}}-trigger do end-sessions\non C_Login times 2 id {{id}} do return {value}"
            ),
        ));
        all.push(once(
            "the login's answer is lost",
            format!(
                "on C_SignInit times 1 id {{id}}-trigger do end-sessions\non C_Login times 1 id {{id}} do lose {value}"
            ),
        ));
    }

    // While the token is brought up: after trouble, and in a new process.
    for function in [
        "C_Initialize",
        "C_GetSlotList",
        "C_GetTokenInfo",
        "C_GetInfo",
        "C_OpenSession",
        "C_GetSessionInfo",
        "C_FindObjectsInit",
        "C_FindObjects",
        "C_GetAttributeValue",
        "C_SignInit",
        "C_Sign",
    ] {
        for value in ["CKR_DEVICE_ERROR", "CKR_FUNCTION_FAILED", "CKR_MECHANISM_INVALID"] {
            all.push(once(
                "recovery fails twice",
                format!(
                    "on C_SignInit times 1 id {{id}}-trigger do disconnect\non {function} times 2 id {{id}} do return {value}"
                ),
            ));
            all.push(once(
                "start-up fails twice",
                format!(
                    "on C_SignInit times 1 id {{id}}-trigger do exit\non {function} times 2 id {{id}} do return {value}"
                ),
            ));
        }
        all.push(once(
            "start-up crashes",
            format!(
                "on C_SignInit times 1 id {{id}}-trigger do exit\non {function} times 1 id {{id}} do segfault"
            ),
        ));
        all.push(once(
            "start-up hangs",
            format!(
                "on C_SignInit times 1 id {{id}}-trigger do exit\non {function} times 1 id {{id}} do hang"
            ),
        ));
        all.push(once(
            "recovery hangs",
            format!(
                "on C_SignInit times 1 id {{id}}-trigger do disconnect\non {function} times 1 id {{id}} do hang"
            ),
        ));
    }

    // Where the issuing key's certificates are not what is signed.
    for (kind, label, meets) in [
        ("in a TLS handshake", "chancery-tls", Meets::Orders),
        ("in a checkpoint", "chancery-log", Meets::Orders),
        ("in a cosignature", "chancery-witness", Meets::Cosignatures),
        ("in a CRL", "chancery-issuing", Meets::Crl),
    ] {
        for what in [
            "return CKR_DEVICE_ERROR",
            "return CKR_SESSION_HANDLE_INVALID",
            "end-sessions",
            "disconnect",
            "logout",
            "flip",
            "stale",
            "abort",
            "hang",
        ] {
            let rules = format!("on C_Sign label {label} times 1 id {{id}} do {what}");
            all.push(Fault { meets, ..once(kind, rules) });
        }
    }
    all
}

/// Each kind once, by name.
pub fn kinds(every: &[Fault]) -> Vec<&'static str> {
    let mut kinds: Vec<&str> = every.iter().map(|fault| fault.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}

/// `count` of them, in an order that the seed gives: rounds of one of each kind, no variant again before all came.
pub fn some(every: &[Fault], count: usize, seed: u64) -> Vec<Fault> {
    let mut state = seed;
    let mut below = |limit: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % limit
    };
    let mut chosen: Vec<Fault> = Vec::new();
    let mut left: Vec<&Fault> = Vec::new();
    while chosen.len() < count {
        if left.is_empty() {
            left.extend(every);
        }
        let mut round: Vec<&str> = left.iter().map(|fault| fault.kind).collect();
        round.sort_unstable();
        round.dedup();
        while !round.is_empty() && chosen.len() < count {
            let kind = round.swap_remove(below(round.len()));
            let variants: Vec<usize> =
                (0..left.len()).filter(|&variant| left[variant].kind == kind).collect();
            chosen.push(left.swap_remove(variants[below(variants.len())]).clone());
        }
    }
    chosen
}

#[test]
fn no_fault_comes_again_before_all_came() {
    let every = every(["01", "02"]);
    let told = |count| -> Vec<String> {
        some(&every, count, 7)
            .into_iter()
            .map(|fault| format!("{} {}", fault.kind, fault.rules))
            .collect()
    };
    let distinct = |of: &[String]| of.iter().collect::<std::collections::BTreeSet<_>>().len();
    let all = told(every.len());
    assert_eq!(distinct(&all), distinct(&told(3 * every.len())));
    assert_eq!(distinct(&all), every.len());
    let kinds = kinds(&every).len();
    let first: Vec<Fault> = some(&every, kinds, 11);
    assert_eq!(self::kinds(&first).len(), kinds, "a round has one of each kind");
}
