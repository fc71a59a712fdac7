//! PKCS#11 return values in plain words: what they mean here, what may mend them, what to do. Every value of
//! PKCS#11 3.2 is in the table, grouped by what follows from it.

use cryptoki::error::RvError;

use super::Remedy::{self, FindAgain, LogIn, NewSession, Operator, Pin, Reinitialize, Throttle};

/// One return value, told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// As the standard prints it; with the number where it has none.
    pub name: String,
    pub remedy: Remedy,
    pub code: &'static str,
    pub means: &'static str,
    pub do_this: &'static str,
}

/// Values that are answered alike.
struct Group {
    remedy: Remedy,
    code: &'static str,
    do_this: &'static str,
    /// Number, name, meaning.
    values: &'static [(u64, &'static str, &'static str)],
}

/// What a return value of a call means. What is not in the table may have left the token in any state, and is mended
/// by initializing anew.
pub(super) fn explain(rv: &RvError) -> Told {
    match *rv {
        RvError::VendorDefined(number) => vendor(number),
        RvError::UnknownErrorCode(number) => {
            by_number(number).unwrap_or_else(|| unknown(format!("CKR 0x{number:x}")))
        }
        _ => {
            let name = standard_name(&format!("{rv:?}"));
            find(&name).unwrap_or_else(|| unknown(name))
        }
    }
}

/// A value by its name, with or without `CKR_`, or by its number (`0xa0`).
pub fn find(what: &str) -> Option<Told> {
    let name = what.to_ascii_uppercase();
    if let Some(digits) = name.strip_prefix("0X") {
        let number = u64::from_str_radix(digits, 16).ok()?;
        return if number >= VENDOR { Some(vendor(number)) } else { by_number(number) };
    }
    let name = name.strip_prefix("CKR_").unwrap_or(&name);
    all().map(|(_, told)| told).find(|told| told.name.strip_prefix("CKR_") == Some(name))
}

/// The whole table, by number.
pub fn all() -> impl Iterator<Item = (u64, Told)> {
    let mut rows: Vec<(u64, Told)> = TABLE
        .iter()
        .flat_map(|group| group.values.iter().map(move |row| (row.0, told(group, row))))
        .chain([(VENDOR, vendor(VENDOR))])
        .collect();
    rows.sort_unstable_by_key(|(number, _)| *number);
    rows.into_iter()
}

fn by_number(number: u64) -> Option<Told> {
    TABLE.iter().find_map(|group| {
        group.values.iter().find(|row| row.0 == number).map(|row| told(group, row))
    })
}

fn told(group: &Group, &(_, name, means): &(u64, &'static str, &'static str)) -> Told {
    let Group { remedy, code, do_this, .. } = *group;
    Told { name: name.to_owned(), remedy, code, means, do_this }
}

fn vendor(number: u64) -> Told {
    let name = if number == VENDOR {
        "CKR_VENDOR_DEFINED".to_owned()
    } else {
        format!("CKR_VENDOR_DEFINED + 0x{:x}", number.wrapping_sub(VENDOR))
    };
    Told {
        means: "the module answered with a value of its maker's own",
        do_this: MAKER,
        ..unknown(name)
    }
}

fn unknown(name: String) -> Told {
    Told {
        name,
        remedy: Reinitialize,
        code: "CHY-TOKEN-ERROR",
        means: "the module answered with a value that PKCS#11 3.2 does not know",
        do_this: UNPLUG,
    }
}

/// `SessionHandleInvalid` as the standard writes it.
fn standard_name(variant: &str) -> String {
    let mut name = String::from("CKR");
    for letter in variant.chars() {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// From here on values are the maker's own.
const VENDOR: u64 = 0x8000_0000;

const ITSELF: &str = "the box tries to recover by itself";
const UNPLUG: &str = "check that the token is plugged in, powered and reachable";
const FEWER: &str = "lower [token] threads, or close other programs that use the token";
const MODEL: &str = "this token or its settings do not fit the key; see hsm/token";
const MAKER: &str = "look it up in the maker's manual; the module's own log may say more";
const QUIRK: &str = "name the attribute under quirks.omit in the token's settings; see hsm/token";
const PLAIN_PIN: &str =
    "put the right PIN where the configuration says, without line ends or spaces around it";
const REPORT: &str =
    "this box does not ask for that: suspect the module, and report it with its version";

const TABLE: &[Group] = &[
    Group {
        remedy: NewSession,
        code: "CHY-TOKEN-SESSION",
        do_this: ITSELF,
        values: &[
            (0xb0, "CKR_SESSION_CLOSED", "the session was closed under us"),
            (0xb3, "CKR_SESSION_HANDLE_INVALID", "the session is gone"),
            (0x90, "CKR_OPERATION_ACTIVE", "the session still has an operation under way"),
            (0x91, "CKR_OPERATION_NOT_INITIALIZED", "the session lost the operation"),
            (0x202, "CKR_OPERATION_CANCEL_FAILED", "an operation could not be called off"),
            (0x204, "CKR_PENDING", "the session still works on an earlier call"),
        ],
    },
    Group {
        remedy: FindAgain,
        code: "CHY-TOKEN-HANDLE",
        do_this: ITSELF,
        values: &[
            (0x60, "CKR_KEY_HANDLE_INVALID", "the key handle is stale"),
            (0x82, "CKR_OBJECT_HANDLE_INVALID", "the object handle is stale"),
        ],
    },
    Group {
        remedy: LogIn,
        code: "CHY-TOKEN-LOGIN",
        do_this: ITSELF,
        values: &[(0x101, "CKR_USER_NOT_LOGGED_IN", "the login has ended")],
    },
    Group {
        remedy: Throttle,
        code: "CHY-TOKEN-BUSY",
        do_this: FEWER,
        values: &[
            (0x31, "CKR_DEVICE_MEMORY", "the token is out of memory"),
            (0xb1, "CKR_SESSION_COUNT", "the token allows no more sessions"),
            (0x201, "CKR_TOKEN_RESOURCE_EXCEEDED", "the token is overloaded"),
        ],
    },
    Group {
        remedy: Throttle,
        code: "CHY-TOKEN-BUSY",
        do_this: "give the box more memory",
        values: &[(0x2, "CKR_HOST_MEMORY", "the module is out of memory")],
    },
    Group {
        remedy: Reinitialize,
        code: "CHY-TOKEN-ERROR",
        do_this: UNPLUG,
        values: &[
            (0x5, "CKR_GENERAL_ERROR", "the module gives no reason"),
            (0x6, "CKR_FUNCTION_FAILED", "the call failed without a reason"),
            (0x30, "CKR_DEVICE_ERROR", "the token reports a fault"),
        ],
    },
    Group {
        remedy: Reinitialize,
        code: "CHY-TOKEN-ABSENT",
        do_this: UNPLUG,
        values: &[
            (0x3, "CKR_SLOT_ID_INVALID", "the slot is gone"),
            (0x32, "CKR_DEVICE_REMOVED", "the token was taken out"),
            (0xe0, "CKR_TOKEN_NOT_PRESENT", "there is no token in the slot"),
            (0xe1, "CKR_TOKEN_NOT_RECOGNIZED", "the module does not know this token"),
        ],
    },
    Group {
        remedy: Reinitialize,
        code: "CHY-TOKEN-UNINITIALIZED",
        do_this: "initialize the token with its maker's own tool; keys it had are gone with that",
        values: &[(0x208, "CKR_TOKEN_NOT_INITIALIZED", "the token has not been initialized")],
    },
    Group {
        remedy: Reinitialize,
        code: "CHY-TOKEN-ERROR",
        do_this: ITSELF,
        values: &[
            (0x0, "CKR_OK", "the call succeeded"),
            (0x1, "CKR_CANCEL", "the call was called off"),
            (0x50, "CKR_FUNCTION_CANCELED", "the call was called off, perhaps at the PIN pad"),
            (0x190, "CKR_CRYPTOKI_NOT_INITIALIZED", "the module was shut down under us"),
            (
                0x191,
                "CKR_CRYPTOKI_ALREADY_INITIALIZED",
                "the module is in use in this process already",
            ),
            (
                0x100,
                "CKR_USER_ALREADY_LOGGED_IN",
                "the user is logged in already, which is as good",
            ),
            (
                0xb7,
                "CKR_SESSION_READ_ONLY_EXISTS",
                "a reading session keeps the officer from logging in",
            ),
            (0x150, "CKR_BUFFER_TOO_SMALL", "an answer was longer than the module had said"),
            (
                0x1b5,
                "CKR_EXCEEDED_MAX_ITERATIONS",
                "the token gave up a computation; the next may succeed",
            ),
            (
                0x206,
                "CKR_SEED_RANDOM_REQUIRED",
                "the token's random number generator has no seed yet",
            ),
        ],
    },
    Group {
        remedy: Reinitialize,
        code: "CHY-TOKEN-ERROR",
        do_this: "end other programs that use this token, and log its security officer out",
        values: &[
            (
                0xb6,
                "CKR_SESSION_EXISTS",
                "somebody has a session, so the token cannot be initialized",
            ),
            (0xb8, "CKR_SESSION_READ_WRITE_SO_EXISTS", "the security officer is logged in"),
            (0x104, "CKR_USER_ANOTHER_ALREADY_LOGGED_IN", "another user is logged in"),
            (0x105, "CKR_USER_TOO_MANY_TYPES", "too many users are logged in"),
        ],
    },
    Group {
        remedy: Reinitialize,
        code: "CHY-TOKEN-ERROR",
        do_this: "power the token off and on; if it stays, it is broken: replace it and restore the keys",
        values: &[
            (
                0x1b6,
                "CKR_FIPS_SELF_TEST_FAILED",
                "the token's own test failed and it has shut itself",
            ),
            (0x121, "CKR_RANDOM_NO_RNG", "the token has no random number generator"),
            (
                0x207,
                "CKR_OPERATION_NOT_VALIDATED",
                "the token's validated mode does not allow the operation",
            ),
        ],
    },
    Group {
        remedy: Reinitialize,
        code: "CHY-TOKEN-ERROR",
        do_this: "confirm at the token when it asks, or switch that off for keys of the CA",
        values: &[
            (0x200, "CKR_FUNCTION_REJECTED", "the request was turned down at the token"),
            (0x1b0, "CKR_NEW_PIN_MODE", "the token wants a new PIN first"),
            (0x1b1, "CKR_NEXT_OTP", "the token wants another one-time password"),
        ],
    },
    Group {
        remedy: Pin,
        code: "CHY-PIN-REFUSED",
        do_this: "put the right PIN where the configuration says; it is tried once, and not again until it changes",
        values: &[(0xa0, "CKR_PIN_INCORRECT", "the token refused the PIN")],
    },
    Group {
        remedy: Pin,
        code: "CHY-PIN-REFUSED",
        do_this: PLAIN_PIN,
        values: &[
            (0xa1, "CKR_PIN_INVALID", "the PIN has characters the token does not take"),
            (0xa2, "CKR_PIN_LEN_RANGE", "the PIN is too long or too short for this token"),
            (0x1b8, "CKR_PIN_TOO_WEAK", "the token finds the PIN too easily guessed"),
        ],
    },
    Group {
        remedy: Pin,
        code: "CHY-PIN-EXPIRED",
        do_this: "set a new PIN with the token's own tool and store it where the configuration says",
        values: &[(0xa3, "CKR_PIN_EXPIRED", "the PIN has expired")],
    },
    Group {
        remedy: Pin,
        code: "CHY-PIN-LOCKED",
        do_this: "the security officer must set a new user PIN",
        values: &[(0xa4, "CKR_PIN_LOCKED", "the token takes no PIN any more")],
    },
    Group {
        remedy: Pin,
        code: "CHY-PIN-UNSET",
        do_this: "initialize the token and its user PIN first",
        values: &[(0x102, "CKR_USER_PIN_NOT_INITIALIZED", "the token has no user PIN")],
    },
    Group {
        remedy: Operator,
        code: "CHY-TOKEN-MECHANISM",
        do_this: MODEL,
        values: &[
            (0x70, "CKR_MECHANISM_INVALID", "the token lacks this algorithm"),
            (
                0x71,
                "CKR_MECHANISM_PARAM_INVALID",
                "the token refuses the parameters of this algorithm",
            ),
            (0x140, "CKR_CURVE_NOT_SUPPORTED", "the token lacks this curve"),
            (0x130, "CKR_DOMAIN_PARAMS_INVALID", "the token does not take the name of this curve"),
            (0x209, "CKR_PARAMETER_SET_NOT_SUPPORTED", "the token lacks this parameter set"),
            (0x62, "CKR_KEY_SIZE_RANGE", "the token lacks keys of this size"),
            (0x63, "CKR_KEY_TYPE_INCONSISTENT", "the key is not of the kind its file says"),
        ],
    },
    Group {
        remedy: Operator,
        code: "CHY-KEY-UNUSABLE",
        do_this: "this key was not made by a ceremony, or is used up; hold one for a new key",
        values: &[
            (0x68, "CKR_KEY_FUNCTION_NOT_PERMITTED", "the key is not allowed to sign"),
            (0x203, "CKR_KEY_EXHAUSTED", "the key has made all the signatures it may make"),
        ],
    },
    Group {
        remedy: Operator,
        code: "CHY-TOKEN-READ-ONLY",
        do_this: "remove the protection for the ceremony",
        values: &[
            (0xe2, "CKR_TOKEN_WRITE_PROTECTED", "the token is write protected"),
            (0xb5, "CKR_SESSION_READ_ONLY", "the session may not write"),
            (
                0x1b,
                "CKR_ACTION_PROHIBITED",
                "the token does not let this object be changed or destroyed",
            ),
        ],
    },
    Group {
        remedy: Operator,
        code: "CHY-TOKEN-TEMPLATE",
        do_this: QUIRK,
        values: &[
            (0x10, "CKR_ATTRIBUTE_READ_ONLY", "the token sets an attribute itself"),
            (
                0x12,
                "CKR_ATTRIBUTE_TYPE_INVALID",
                "the token does not know an attribute of the template",
            ),
            (
                0x13,
                "CKR_ATTRIBUTE_VALUE_INVALID",
                "the token does not take the value of an attribute",
            ),
            (0xd0, "CKR_TEMPLATE_INCOMPLETE", "the token wants more attributes in the template"),
            (0xd1, "CKR_TEMPLATE_INCONSISTENT", "the token finds the template at odds with itself"),
        ],
    },
    Group {
        remedy: Operator,
        code: "CHY-MODULE-UNFIT",
        do_this: "use another module or a newer version of it: this box signs on threads of its own",
        values: &[
            (
                0x9,
                "CKR_NEED_TO_CREATE_THREADS",
                "the module does not work without threads of its own",
            ),
            (0xa, "CKR_CANT_LOCK", "the module cannot be used by several threads"),
        ],
    },
    Group {
        remedy: Operator,
        code: "CHY-MODULE-LOAD",
        do_this: "install what it needs: `ldd` and the maker's manual name it",
        values: &[(
            0x1b7,
            "CKR_LIBRARY_LOAD_FAILED",
            "the module did not find a library that it needs",
        )],
    },
    Group {
        remedy: Reinitialize,
        code: "CHY-TOKEN-ERROR",
        do_this: REPORT,
        values: &[
            (0x7, "CKR_ARGUMENTS_BAD", "the module does not take the arguments of the call"),
            (0x8, "CKR_NO_EVENT", "no token was put in or taken out"),
            (0x11, "CKR_ATTRIBUTE_SENSITIVE", "the token keeps an attribute to itself"),
            (0x20, "CKR_DATA_INVALID", "the token does not take what it shall sign"),
            (0x21, "CKR_DATA_LEN_RANGE", "the token does not take so much, or so little, to sign"),
            (0x40, "CKR_ENCRYPTED_DATA_INVALID", "what shall be decrypted is no ciphertext"),
            (
                0x41,
                "CKR_ENCRYPTED_DATA_LEN_RANGE",
                "what shall be decrypted has no ciphertext's length",
            ),
            (0x42, "CKR_AEAD_DECRYPT_FAILED", "what shall be decrypted is not authentic"),
            (0x51, "CKR_FUNCTION_NOT_PARALLEL", "nothing runs beside this call"),
            (0x54, "CKR_FUNCTION_NOT_SUPPORTED", "the module does not offer this function"),
            (0x64, "CKR_KEY_NOT_NEEDED", "a key was given that is not needed"),
            (0x65, "CKR_KEY_CHANGED", "a key is not the one that was used before"),
            (0x66, "CKR_KEY_NEEDED", "a key is missing to go on"),
            (0x67, "CKR_KEY_INDIGESTIBLE", "the key cannot be digested"),
            (0x69, "CKR_KEY_NOT_WRAPPABLE", "the key cannot be wrapped, as it should be"),
            (0x6a, "CKR_KEY_UNEXTRACTABLE", "the key does not leave the token, as it should be"),
            (0xb4, "CKR_SESSION_PARALLEL_NOT_SUPPORTED", "sessions of an old kind are not offered"),
            (0x205, "CKR_SESSION_ASYNC_NOT_SUPPORTED", "calls that answer later are not offered"),
            (0xc0, "CKR_SIGNATURE_INVALID", "the token finds a signature wrong"),
            (0xc1, "CKR_SIGNATURE_LEN_RANGE", "the token finds a signature wrong by its length"),
            (0xf0, "CKR_UNWRAPPING_KEY_HANDLE_INVALID", "the handle of an unwrapping key is stale"),
            (0xf1, "CKR_UNWRAPPING_KEY_SIZE_RANGE", "the unwrapping key has no fitting size"),
            (0xf2, "CKR_UNWRAPPING_KEY_TYPE_INCONSISTENT", "the unwrapping key is of another kind"),
            (0x103, "CKR_USER_TYPE_INVALID", "the token does not know this kind of user"),
            (0x110, "CKR_WRAPPED_KEY_INVALID", "what shall be unwrapped is no wrapped key"),
            (
                0x112,
                "CKR_WRAPPED_KEY_LEN_RANGE",
                "what shall be unwrapped has no wrapped key's length",
            ),
            (0x113, "CKR_WRAPPING_KEY_HANDLE_INVALID", "the handle of a wrapping key is stale"),
            (0x114, "CKR_WRAPPING_KEY_SIZE_RANGE", "the wrapping key has no fitting size"),
            (0x115, "CKR_WRAPPING_KEY_TYPE_INCONSISTENT", "the wrapping key is of another kind"),
            (0x120, "CKR_RANDOM_SEED_NOT_SUPPORTED", "the token takes no seed from outside"),
            (0x160, "CKR_SAVED_STATE_INVALID", "a saved state is none"),
            (0x170, "CKR_INFORMATION_SENSITIVE", "the token keeps this to itself"),
            (0x180, "CKR_STATE_UNSAVEABLE", "the state of an operation cannot be saved"),
            (0x1a0, "CKR_MUTEX_BAD", "the module was given no lock"),
            (0x1a1, "CKR_MUTEX_NOT_LOCKED", "the module let go of a lock it did not hold"),
            (0x1b9, "CKR_PUBLIC_KEY_INVALID", "the token finds a public key to be none"),
        ],
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use cryptoki::error::Rv;

    #[test]
    fn a_refused_pin_is_never_mended_by_machine() {
        for rv in [
            RvError::PinIncorrect,
            RvError::PinInvalid,
            RvError::PinLenRange,
            RvError::PinExpired,
            RvError::PinLocked,
            RvError::PinTooWeak,
            RvError::UserPinNotInitialized,
        ] {
            assert_eq!(explain(&rv).remedy, Pin, "{rv:?}");
        }
    }

    #[test]
    fn what_is_unknown_is_taken_for_an_unknown_state() {
        let vendor = explain(&RvError::VendorDefined(0x8000_0001));
        assert_eq!(
            (vendor.remedy, vendor.name.as_str()),
            (Reinitialize, "CKR_VENDOR_DEFINED + 0x1")
        );
        let unknown = explain(&RvError::UnknownErrorCode(0x7777));
        assert_eq!((unknown.remedy, unknown.name.as_str()), (Reinitialize, "CKR 0x7777"));
    }

    /// What the binding knows, and what PKCS#11 3.0 to 3.2 added since: all have words of their own.
    #[test]
    fn every_value_of_the_standard_is_in_the_table() {
        const SINCE: [u64; 10] =
            [0x42, 0x201, 0x202, 0x203, 0x204, 0x205, 0x206, 0x207, 0x208, 0x209];
        let mut known = 0;
        for number in 1..0x1000u64 {
            let rv = match Rv::from(number) {
                Rv::Error(RvError::UnknownErrorCode(_)) if !SINCE.contains(&number) => continue,
                Rv::Error(rv) => rv,
                Rv::Ok => unreachable!("only 0 is"),
            };
            let told = explain(&rv);
            assert_eq!(Some(&told), by_number(number).as_ref(), "{rv:?} 0x{number:x}");
            assert_eq!(find(&told.name), Some(told.clone()));
            assert_eq!(find(&format!("0x{number:x}")), Some(told));
            known += 1;
        }
        // And CKR_OK and CKR_VENDOR_DEFINED.
        assert_eq!(all().count(), known + 2);
        assert_eq!(known, 103);
    }

    #[test]
    fn no_value_stands_twice_and_words_are_words() {
        let all: Vec<Told> = all().map(|(_, told)| told).collect();
        for (n, told) in all.iter().enumerate() {
            assert!(all[..n].iter().all(|other| other.name != told.name), "{}", told.name);
            assert!(!told.means.ends_with('.') && told.means.contains(' '), "{}", told.name);
            assert!(!told.means.contains("CKR_"), "{}", told.name);
        }
    }

    #[test]
    fn a_value_is_found_as_it_is_typed() {
        assert_eq!(find("ckr_pin_incorrect").unwrap().code, "CHY-PIN-REFUSED");
        assert_eq!(find("DEVICE_REMOVED").unwrap().name, "CKR_DEVICE_REMOVED");
        assert_eq!(find("0xA4").unwrap().name, "CKR_PIN_LOCKED");
        assert_eq!(find("0x80000005").unwrap().name, "CKR_VENDOR_DEFINED + 0x5");
        assert_eq!(find("0x7777"), None);
        assert_eq!(find("CKR_NOTHING"), None);
    }
}
