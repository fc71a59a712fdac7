//! Token × step and token × algorithm: what is expected. A run shows that it is so.

use chancery::pki::key::{KeyKind, SignatureAlgorithm};

use super::contract::Outcome;

/// What the pool promises of every token, in the order it is tried.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// All four keys, by the program, judged by their attributes.
    Ceremony,
    Sign,
    Parallel,
    /// Another thread of the process logs out.
    Logout,
    /// C_Finalize and C_Initialize behind the pool's back: every session is gone.
    Sessions,
    /// C_Finalize behind the pool's back.
    Finalized,
    /// Away and back.
    Lost,
    /// Another process finds the keys again and refuses another in their place.
    Restart,
    /// Refused once, in plain words; the right one works afterwards.
    WrongPin,
}

impl Step {
    pub const ALL: [Self; 9] = [
        Self::Ceremony,
        Self::Sign,
        Self::Parallel,
        Self::Logout,
        Self::Sessions,
        Self::Finalized,
        Self::Lost,
        Self::Restart,
        Self::WrongPin,
    ];

    /// The column's heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ceremony => "ceremony",
            Self::Sign => "sign",
            Self::Parallel => "in parallel",
            Self::Logout => "logged out",
            Self::Sessions => "sessions lost",
            Self::Finalized => "finalized",
            Self::Lost => "token lost",
            Self::Restart => "restart",
            Self::WrongPin => "wrong PIN",
        }
    }
}

/// A kind of key and how it signs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Row {
    P256,
    P384,
    Ed25519,
    Rsa2048,
    Rsa2048Pss,
    Rsa3072,
    Rsa3072Pss,
    Rsa4096,
    Rsa4096Pss,
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

impl Row {
    pub const ALL: [Self; 12] = [
        Self::P256,
        Self::P384,
        Self::Ed25519,
        Self::Rsa2048,
        Self::Rsa2048Pss,
        Self::Rsa3072,
        Self::Rsa3072Pss,
        Self::Rsa4096,
        Self::Rsa4096Pss,
        Self::MlDsa44,
        Self::MlDsa65,
        Self::MlDsa87,
    ];

    /// The column's heading.
    pub fn title(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::Ed25519 => "Ed25519",
            Self::Rsa2048 => "RSA-2048",
            Self::Rsa2048Pss => "RSA-2048 PSS",
            Self::Rsa3072 => "RSA-3072",
            Self::Rsa3072Pss => "RSA-3072 PSS",
            Self::Rsa4096 => "RSA-4096",
            Self::Rsa4096Pss => "RSA-4096 PSS",
            Self::MlDsa44 => "ML-DSA-44",
            Self::MlDsa65 => "ML-DSA-65",
            Self::MlDsa87 => "ML-DSA-87",
        }
    }

    /// One key serves every row of its kind.
    pub fn kind_title(self) -> &'static str {
        let title = self.title();
        title.strip_suffix(" PSS").unwrap_or(title)
    }

    /// Every kind once.
    pub fn kinds() -> impl Iterator<Item = &'static str> {
        Self::ALL.into_iter().map(Self::title).filter(|title| !title.ends_with(" PSS"))
    }

    pub fn kind(self) -> KeyKind {
        match self {
            Self::P256 => KeyKind::EcP256,
            Self::P384 => KeyKind::EcP384,
            Self::Ed25519 => KeyKind::Ed25519,
            Self::Rsa2048 | Self::Rsa2048Pss => KeyKind::Rsa(2048),
            Self::Rsa3072 | Self::Rsa3072Pss => KeyKind::Rsa(3072),
            Self::Rsa4096 | Self::Rsa4096Pss => KeyKind::Rsa(4096),
            Self::MlDsa44 => KeyKind::MlDsa44,
            Self::MlDsa65 => KeyKind::MlDsa65,
            Self::MlDsa87 => KeyKind::MlDsa87,
        }
    }

    pub fn algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::P256 => SignatureAlgorithm::EcdsaSha256,
            Self::P384 => SignatureAlgorithm::EcdsaSha384,
            Self::Ed25519 => SignatureAlgorithm::Ed25519,
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => SignatureAlgorithm::RsaSha256,
            Self::Rsa2048Pss | Self::Rsa3072Pss | Self::Rsa4096Pss => {
                SignatureAlgorithm::RsaPssSha256
            }
            Self::MlDsa44 => SignatureAlgorithm::MlDsa44,
            Self::MlDsa65 => SignatureAlgorithm::MlDsa65,
            Self::MlDsa87 => SignatureAlgorithm::MlDsa87,
        }
    }

    /// As `Module::mechanisms` names them.
    pub fn mechanisms(self) -> [&'static str; 2] {
        match self {
            Self::P256 | Self::P384 => ["ecdsa", "ec-key-pair-gen"],
            Self::Ed25519 => ["eddsa", "ec-edwards-key-pair-gen"],
            Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096 => ["rsa-pkcs", "rsa-pkcs-key-pair-gen"],
            Self::Rsa2048Pss | Self::Rsa3072Pss | Self::Rsa4096Pss => {
                ["rsa-pkcs-pss", "rsa-pkcs-key-pair-gen"]
            }
            Self::MlDsa44 | Self::MlDsa65 | Self::MlDsa87 => ["ml-dsa", "ml-dsa-key-pair-gen"],
        }
    }
}

/// What is expected of a step or a row.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Cell {
    Works,
    /// Works, and this is worth knowing: the loss is not noticed before the module is initialized anew.
    GoesOn(&'static str),
    /// Cannot be done to it, for this reason; the pool signs on.
    Untouched(&'static str),
    /// The token does not offer it.
    Absent(&'static str),
    /// The program refuses with this code, for this reason.
    Refused(&'static str, &'static str),
}

pub use Cell::{Absent, GoesOn, Refused, Untouched, Works};

impl Cell {
    pub fn expects(self, outcome: &Outcome) -> bool {
        match (self, outcome) {
            (Works, Outcome::Works | Outcome::Signs(..))
            | (GoesOn(_), Outcome::GoesOn)
            | (Untouched(_), Outcome::Untouched)
            | (Absent(_), Outcome::Absent) => true,
            (Refused(code, _), Outcome::Refused(said)) => said.starts_with(code),
            _ => false,
        }
    }
}

/// One token.
pub struct Model {
    /// Of `NAME.token` and `hsm/token/NAME.toml`.
    pub name: &'static str,
    /// What the row is called.
    pub title: &'static str,
    /// Kind of the log key that its ceremony makes.
    pub log_key: &'static str,
    /// A kind of key that it makes in any case.
    pub fallback: KeyKind,
    pub step: fn(Step) -> Cell,
    pub row: fn(Row) -> Cell,
}

const NO_ML_DSA: Cell = Absent("the token has no ML-DSA");
const NO_EDDSA: Cell = Absent("the token has no Ed25519; its log key is P-256");
const ALONE: Cell = Untouched(
    "each load of this module is an instance of its own: nobody in the process can end another's",
);
const KEPT_OPEN: Cell =
    Untouched("its database stays open, and is not missed as long as the process lives");
const NO_LOSS: Cell =
    GoesOn("its files are read or held open once, and missed when the module is initialized anew");
const NO_CLOCK: Cell = Refused(
    "CHY-TOKEN-ERROR",
    "the token claims a clock and gives `HH:MM:SS` for its time, so that cryptoki 0.12 cannot read C_GetTokenInfo; it \
     would have RSA only",
);
const NOT_LOCAL: Cell = Refused(
    "CHY-CEREMONY-ATTRIBUTES",
    "NSS does not keep CKA_LOCAL, and a ceremony takes no key of which the token does not say that it made it; the \
     other steps were run with a key made by hand",
);
const TO_3072: Cell = Refused("CHY-TOKEN-TEMPLATE", "this TPM has RSA to 3072 bits");

fn without_ml_dsa(row: Row) -> Cell {
    match row {
        Row::MlDsa44 | Row::MlDsa65 | Row::MlDsa87 => NO_ML_DSA,
        _ => Works,
    }
}

fn without_eddsa(row: Row) -> Cell {
    match row {
        Row::Ed25519 => NO_EDDSA,
        other => without_ml_dsa(other),
    }
}

/// Every row, in the order of the page.
pub const MODELS: [&Model; 6] = [
    &Model {
        name: "softhsm2",
        title: "SoftHSM2",
        log_key: "ed25519",
        fallback: KeyKind::EcP256,
        step: |_| Works,
        row: without_ml_dsa,
    },
    &Model {
        name: "kryoptic",
        title: "kryoptic",
        log_key: "ed25519",
        fallback: KeyKind::EcP256,
        step: |step| match step {
            Step::Lost => NO_LOSS,
            _ => Works,
        },
        row: |_| Works,
    },
    &Model {
        name: "tpm2-pkcs11",
        title: "TPM 2.0 (swtpm)",
        log_key: "ec-p256",
        fallback: KeyKind::EcP256,
        step: |_| Works,
        row: |row| match row {
            Row::Rsa4096 | Row::Rsa4096Pss => TO_3072,
            other => without_eddsa(other),
        },
    },
    &Model {
        name: "p11-kit",
        title: "p11-kit remote",
        log_key: "ec-p256",
        fallback: KeyKind::EcP256,
        step: |step| match step {
            Step::Logout | Step::Sessions | Step::Finalized => ALONE,
            _ => Works,
        },
        row: without_eddsa,
    },
    &Model {
        name: "nss",
        title: "NSS",
        log_key: "ec-p256",
        fallback: KeyKind::EcP256,
        step: |step| match step {
            Step::Ceremony => NOT_LOCAL,
            Step::Sessions | Step::Finalized => ALONE,
            Step::Lost => KEPT_OPEN,
            _ => Works,
        },
        row: without_eddsa,
    },
    &Model {
        name: "opencryptoki",
        title: "opencryptoki",
        log_key: "ec-p256",
        fallback: KeyKind::Rsa(2048),
        step: |_| NO_CLOCK,
        row: |_| NO_CLOCK,
    },
];
