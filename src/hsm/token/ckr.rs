//! PKCS#11 return values in plain words: what they mean here, what may mend them, what to do.

use cryptoki::error::RvError;

use super::Remedy;

/// One return value, told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// As the standard prints it, with the number where it has no name.
    pub(super) name: String,
    pub(super) remedy: Remedy,
    pub(super) code: &'static str,
    pub(super) means: &'static str,
    pub(super) do_this: &'static str,
}

/// The table of standards section 7. What is not in it may have left the token in any state, and is mended
/// by initializing anew.
pub(super) fn explain(rv: &RvError) -> Told {
    use Remedy::{FindAgain, LogIn, NewSession, Operator, Pin, Reinitialize, Throttle};

    const ITSELF: &str = "the box tries to recover by itself";
    const UNPLUG: &str = "check that the token is plugged in, powered and reachable";
    const FEWER: &str = "lower [token] threads, or close other programs that use the token";
    const MODEL: &str = "this token or its settings do not fit the key; see hsm/token";

    let (name, remedy, code, means, do_this) = match rv {
        RvError::SessionHandleInvalid => (
            "CKR_SESSION_HANDLE_INVALID",
            NewSession,
            "CHY-TOKEN-SESSION",
            "the session is gone",
            ITSELF,
        ),
        RvError::SessionClosed => (
            "CKR_SESSION_CLOSED",
            NewSession,
            "CHY-TOKEN-SESSION",
            "the session was closed under us",
            ITSELF,
        ),
        RvError::OperationActive => (
            "CKR_OPERATION_ACTIVE",
            NewSession,
            "CHY-TOKEN-SESSION",
            "the session still has an operation under way",
            ITSELF,
        ),
        RvError::OperationNotInitialized => (
            "CKR_OPERATION_NOT_INITIALIZED",
            NewSession,
            "CHY-TOKEN-SESSION",
            "the session lost the operation",
            ITSELF,
        ),
        RvError::ObjectHandleInvalid => (
            "CKR_OBJECT_HANDLE_INVALID",
            FindAgain,
            "CHY-TOKEN-HANDLE",
            "the object handle is stale",
            ITSELF,
        ),
        RvError::KeyHandleInvalid => (
            "CKR_KEY_HANDLE_INVALID",
            FindAgain,
            "CHY-TOKEN-HANDLE",
            "the key handle is stale",
            ITSELF,
        ),
        RvError::UserNotLoggedIn => {
            ("CKR_USER_NOT_LOGGED_IN", LogIn, "CHY-TOKEN-LOGIN", "the login has ended", ITSELF)
        }
        RvError::SessionCount => (
            "CKR_SESSION_COUNT",
            Throttle,
            "CHY-TOKEN-BUSY",
            "the token allows no more sessions",
            FEWER,
        ),
        RvError::DeviceMemory => {
            ("CKR_DEVICE_MEMORY", Throttle, "CHY-TOKEN-BUSY", "the token is out of memory", FEWER)
        }
        RvError::HostMemory => (
            "CKR_HOST_MEMORY",
            Throttle,
            "CHY-TOKEN-BUSY",
            "the module is out of memory",
            "give the box more memory",
        ),
        RvError::UnknownErrorCode(0x201) => (
            "CKR_TOKEN_RESOURCE_EXCEEDED",
            Throttle,
            "CHY-TOKEN-BUSY",
            "the token is overloaded",
            FEWER,
        ),
        RvError::DeviceError => (
            "CKR_DEVICE_ERROR",
            Reinitialize,
            "CHY-TOKEN-ERROR",
            "the token reports a fault",
            UNPLUG,
        ),
        RvError::DeviceRemoved => (
            "CKR_DEVICE_REMOVED",
            Reinitialize,
            "CHY-TOKEN-ABSENT",
            "the token was taken out",
            UNPLUG,
        ),
        RvError::TokenNotPresent => (
            "CKR_TOKEN_NOT_PRESENT",
            Reinitialize,
            "CHY-TOKEN-ABSENT",
            "there is no token in the slot",
            UNPLUG,
        ),
        RvError::TokenNotRecognized => (
            "CKR_TOKEN_NOT_RECOGNIZED",
            Reinitialize,
            "CHY-TOKEN-ABSENT",
            "the module does not know this token",
            UNPLUG,
        ),
        RvError::SlotIdInvalid => {
            ("CKR_SLOT_ID_INVALID", Reinitialize, "CHY-TOKEN-ABSENT", "the slot is gone", UNPLUG)
        }
        RvError::CryptokiNotInitialized => (
            "CKR_CRYPTOKI_NOT_INITIALIZED",
            Reinitialize,
            "CHY-TOKEN-ERROR",
            "the module was shut down under us",
            ITSELF,
        ),
        RvError::GeneralError => (
            "CKR_GENERAL_ERROR",
            Reinitialize,
            "CHY-TOKEN-ERROR",
            "the module gives no reason",
            UNPLUG,
        ),
        RvError::FunctionFailed => (
            "CKR_FUNCTION_FAILED",
            Reinitialize,
            "CHY-TOKEN-ERROR",
            "the call failed without a reason",
            UNPLUG,
        ),
        RvError::PinIncorrect => (
            "CKR_PIN_INCORRECT",
            Pin,
            "CHY-PIN-REFUSED",
            "the token refused the PIN",
            "put the right PIN where the configuration says; it is tried once, and not again until it changes",
        ),
        RvError::PinInvalid => (
            "CKR_PIN_INVALID",
            Pin,
            "CHY-PIN-REFUSED",
            "the PIN has characters the token does not take",
            "put the right PIN where the configuration says, without line ends or spaces around it",
        ),
        RvError::PinLenRange => (
            "CKR_PIN_LEN_RANGE",
            Pin,
            "CHY-PIN-REFUSED",
            "the PIN is too long or too short for this token",
            "put the right PIN where the configuration says, without line ends or spaces around it",
        ),
        RvError::PinExpired => (
            "CKR_PIN_EXPIRED",
            Pin,
            "CHY-PIN-EXPIRED",
            "the PIN has expired",
            "set a new PIN with the token's own tool and store it where the configuration says",
        ),
        RvError::PinLocked => (
            "CKR_PIN_LOCKED",
            Pin,
            "CHY-PIN-LOCKED",
            "the token takes no PIN any more",
            "the security officer must set a new user PIN",
        ),
        RvError::UserPinNotInitialized => (
            "CKR_USER_PIN_NOT_INITIALIZED",
            Pin,
            "CHY-PIN-UNSET",
            "the token has no user PIN",
            "initialize the token and its user PIN first",
        ),
        RvError::MechanismInvalid => (
            "CKR_MECHANISM_INVALID",
            Operator,
            "CHY-TOKEN-MECHANISM",
            "the token lacks this algorithm",
            MODEL,
        ),
        RvError::MechanismParamInvalid => (
            "CKR_MECHANISM_PARAM_INVALID",
            Operator,
            "CHY-TOKEN-MECHANISM",
            "the token refuses the parameters of this algorithm",
            MODEL,
        ),
        RvError::CurveNotSupported => (
            "CKR_CURVE_NOT_SUPPORTED",
            Operator,
            "CHY-TOKEN-MECHANISM",
            "the token lacks this curve",
            MODEL,
        ),
        RvError::DomainParamsInvalid => (
            "CKR_DOMAIN_PARAMS_INVALID",
            Operator,
            "CHY-TOKEN-MECHANISM",
            "the token does not take the name of this curve",
            MODEL,
        ),
        RvError::KeySizeRange => (
            "CKR_KEY_SIZE_RANGE",
            Operator,
            "CHY-TOKEN-MECHANISM",
            "the token lacks keys of this size",
            MODEL,
        ),
        RvError::KeyTypeInconsistent => (
            "CKR_KEY_TYPE_INCONSISTENT",
            Operator,
            "CHY-TOKEN-MECHANISM",
            "the key is not of the kind its file says",
            MODEL,
        ),
        RvError::KeyFunctionNotPermitted => (
            "CKR_KEY_FUNCTION_NOT_PERMITTED",
            Operator,
            "CHY-KEY-UNUSABLE",
            "the key is not allowed to sign",
            "this key was not made by a ceremony; hold one",
        ),
        RvError::TokenWriteProtected => (
            "CKR_TOKEN_WRITE_PROTECTED",
            Operator,
            "CHY-TOKEN-READ-ONLY",
            "the token is write protected",
            "remove the protection for the ceremony",
        ),
        RvError::SessionReadOnly => (
            "CKR_SESSION_READ_ONLY",
            Operator,
            "CHY-TOKEN-READ-ONLY",
            "the session may not write",
            ITSELF,
        ),
        RvError::AttributeReadOnly => (
            "CKR_ATTRIBUTE_READ_ONLY",
            Operator,
            "CHY-TOKEN-TEMPLATE",
            "the token sets an attribute itself",
            QUIRK,
        ),
        RvError::AttributeTypeInvalid => (
            "CKR_ATTRIBUTE_TYPE_INVALID",
            Operator,
            "CHY-TOKEN-TEMPLATE",
            "the token does not know an attribute of the template",
            QUIRK,
        ),
        RvError::AttributeValueInvalid => (
            "CKR_ATTRIBUTE_VALUE_INVALID",
            Operator,
            "CHY-TOKEN-TEMPLATE",
            "the token does not take the value of an attribute",
            QUIRK,
        ),
        RvError::TemplateInconsistent => (
            "CKR_TEMPLATE_INCONSISTENT",
            Operator,
            "CHY-TOKEN-TEMPLATE",
            "the token finds the template at odds with itself",
            QUIRK,
        ),
        RvError::TemplateIncomplete => (
            "CKR_TEMPLATE_INCOMPLETE",
            Operator,
            "CHY-TOKEN-TEMPLATE",
            "the token wants more attributes in the template",
            QUIRK,
        ),
        other => {
            return Told {
                name: format!("{other:?}"),
                remedy: Reinitialize,
                code: "CHY-TOKEN-ERROR",
                means: "the module answered with this value, for which there is no special rule",
                do_this: UNPLUG,
            };
        }
    };
    Told { name: name.to_owned(), remedy, code, means, do_this }
}

const QUIRK: &str = "name the attribute under quirks.omit in the token's settings; see hsm/token";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_pin_is_never_mended_by_machine() {
        for rv in [
            RvError::PinIncorrect,
            RvError::PinInvalid,
            RvError::PinLenRange,
            RvError::PinExpired,
            RvError::PinLocked,
            RvError::UserPinNotInitialized,
        ] {
            assert_eq!(explain(&rv).remedy, Remedy::Pin, "{rv:?}");
        }
    }

    #[test]
    fn what_is_unknown_is_taken_for_an_unknown_state() {
        assert_eq!(explain(&RvError::VendorDefined(0x8000_0001)).remedy, Remedy::Reinitialize);
        assert_eq!(explain(&RvError::UnknownErrorCode(0x7777)).remedy, Remedy::Reinitialize);
    }

    #[test]
    fn the_names_are_the_standards() {
        assert_eq!(explain(&RvError::UserNotLoggedIn).name, "CKR_USER_NOT_LOGGED_IN");
        assert_eq!(explain(&RvError::UserNotLoggedIn).remedy, Remedy::LogIn);
    }
}
