//! What a module shows without a login: every slot, every token in one, initialized or not, and the state of each.

use cryptoki::slot::Limit;

use super::{Module, Slot, TokenError, TokenInfo};

/// A slot, with or without a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotView {
    pub slot: Slot,
    /// As the module numbers it now; never a name.
    pub number: u64,
    pub description: String,
    pub manufacturer: String,
    /// Tokens can be taken out (CKF_REMOVABLE_DEVICE).
    pub removable: bool,
    /// The module says that it is hardware (CKF_HW_SLOT).
    pub hardware: bool,
    /// `None`: the slot is empty. An error is the token's own answer.
    pub token: Option<Result<TokenView, TokenError>>,
}

/// A token and what it says of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenView {
    pub info: TokenInfo,
    /// It has a label and a security officer (CKF_TOKEN_INITIALIZED).
    pub initialized: bool,
    pub write_protected: bool,
    /// The user PIN is the one it was delivered with, or must be changed.
    pub pin_to_be_changed: bool,
    pub officer_pin_locked: bool,
    /// The token has shut itself after a failed test (CKF_ERROR_STATE).
    pub error_state: bool,
    /// Sessions of this process, or of all, as the token counts; `None` where it does not say.
    pub sessions: Option<u64>,
    /// `None`: no limit is known.
    pub most_sessions: Option<u64>,
}

impl Module {
    /// Every slot. Fails only if there is no list of them.
    pub fn slots(&self) -> Result<Vec<SlotView>, TokenError> {
        let of = |call: &'static str| move |e| TokenError::from_cryptoki(call, &e);
        let slots = self.pkcs11.get_all_slots().map_err(of("C_GetSlotList"))?;
        let mut views = Vec::with_capacity(slots.len());
        for slot in slots {
            let info = self.pkcs11.get_slot_info(slot).map_err(of("C_GetSlotInfo"))?;
            views.push(SlotView {
                slot: Slot(slot),
                number: slot.id(),
                description: info.slot_description().trim_end().to_owned(),
                manufacturer: info.manufacturer_id().trim_end().to_owned(),
                removable: info.removable_device(),
                hardware: info.hardware_slot(),
                token: info.token_present().then(|| self.view(Slot(slot))),
            });
        }
        Ok(views)
    }

    /// One token's state, read anew.
    pub fn view(&self, slot: Slot) -> Result<TokenView, TokenError> {
        let state = self
            .pkcs11
            .get_token_info(slot.0)
            .map_err(|e| TokenError::from_cryptoki("C_GetTokenInfo", &e))?;
        Ok(TokenView {
            info: TokenInfo::of(&state),
            initialized: state.token_initialized(),
            write_protected: state.write_protected(),
            pin_to_be_changed: state.user_pin_to_be_changed(),
            officer_pin_locked: state.so_pin_locked(),
            error_state: state.error_state(),
            sessions: state.session_count(),
            most_sessions: match state.max_session_count() {
                Limit::Max(most) => Some(most),
                Limit::Unavailable | Limit::Infinite => None,
            },
        })
    }
}
